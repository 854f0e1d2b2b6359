package rota

// Version is the version of this module, for people and logs.
const Version = "0.1.0"

// Package view keeps a picture of the whole store in memory, true up to some
// revision, and tells its subscribers what changed: the leader, the sessions of
// workers and the API all look at the same picture.
//
// It reads the store and never writes to it. Writers may tell it of their own
// successful transactions (Applied), so that they see them at once.
package view

// Package rest is rota's API over HTTP: the methods of rota.v1 as JSON under
// /v1, their OpenAPI description, and the rules that keep a browser's other
// tabs and the rest of the network out.
//
// The scheduler calls NewHandler with a connection to its own gRPC server and
// NewServer with the handler; nothing else does. The package never decides
// anything: each call is one call of the gRPC API, and each answer is that
// call's answer as package jsonpb writes it.
package rest

//go:generate go test -run TestOpenAPIIsCurrent -update .

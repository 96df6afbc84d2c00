// Package cert holds the host's certificate and private key: it loads them
// from their PEM files, makes them when the host has none yet, and gives them
// to TLS handshakes.
//
// A key that exists is never replaced, so that clients which pinned it keep
// working; where only the certificate is missing, a new one is made for the
// key that is there. Made certificates name every address of the machine, so
// that clients find the one they typed. No other machine is asked for anything.
//
// Handshakes read the current pair through an atomic pointer: a Store may be
// used by any number of goroutines, and Reload changes the pair for new
// handshakes only. Which paths are configured, and whether the host may make
// files there, is left to the caller, as is telling people about it.
//
// The rules are those of the specification, state 8.
package cert

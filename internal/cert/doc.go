// Package cert holds the host's certificate and private key: it loads them
// from their PEM files, makes them when the host has none yet, renews what it
// made, and gives them to TLS handshakes.
//
// A key that exists is never replaced, so that clients which pinned it keep
// working; where only the certificate is missing, a new one is made for the
// key that is there. Made certificates name every address of the machine, so
// that clients find the one they typed. No other machine is asked for anything.
//
// Open and SetConfig do what an administrator asks for: they make what is
// missing, load what there is, also an expired chain (Info has the warnings),
// and bring the names in a made certificate up to date. Reload is for files
// that have changed by themselves: it takes them over whole or not at all. Run
// renews a made certificate 30 days before it expires, for the same key, and
// tells the log when a certificate needs attention. A certificate counts as
// made by the host only if it stands at the host's own path, is signed by its
// own key and has the form that this package gives; any other one, whether of
// an authority or of the administrator, is never replaced.
//
// Handshakes read the current pair and the lowest version of TLS through one
// atomic pointer, together: a Store may be used by any number of goroutines,
// changes are for new handshakes only, and session tickets outlive them. Which
// paths are configured, whether the host may make files there, and watching
// the files is left to the caller.
//
// The rules are those of the specification, state 8.
package cert

// Package conf is the configuration file of the host, conf.json: every key with
// its default, the reason for that default, and the values it may have.
//
// A Config is complete and valid: Defaults, Load, LoadOrCreate, Parse and Set
// return or leave nothing else. Reading is strict. A syntax error, a key that
// stands twice, an unknown key, a wrong type and a value out of range are each
// one line that names the file, the place, the key, the value and what is
// allowed; the values of secret keys never appear in it. An existing file is
// never changed.
//
// Read and Inspect go on behind a fault and return all of them, with the place of
// every key, for those who show or correct a file. Reloaded says what a running
// host uses of a file that it has read again.
//
// Everything about a key stands once, in the table of keys.go. Locate says in
// which directories the host keeps its files. What the values do is left to the
// packages that get them; who runs the host decides when a file is read again.
//
// A Config is a value without locks: share it for reading, copy it to change it.
//
// The keys are described in the specification, state 4; the directories are
// those of the design's decision D11.
package conf

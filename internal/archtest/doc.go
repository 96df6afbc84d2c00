// Package archtest holds the import rules of this module and tests them: which
// package stands in which layer, that imports point downwards only, that the
// public packages need nothing but the standard library, and that each
// dangerous import (SQL, processes, system calls, signals, byte order) has one
// place.
//
// It has no code of its own. The rules are the tables in rules_test.go; a new
// package is added there, in the same commit, with the layer that it belongs
// to. docs/ARCHITECTURE.md tells what the layers are for.
package archtest

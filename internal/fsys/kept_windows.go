package fsys

import (
	"io/fs"
	"os"
)

// There is no root on Windows that works in the directories of others.

func checkWay(string) error                                       { return nil }
func othersChange(fs.FileInfo) bool                               { return false }
func namesAndOwner(info, dir fs.FileInfo) (names int, fits bool)  { return 1, true }
func secondName(info, dir fs.FileInfo) bool                       { return false }
func sameAccount(path string, namer, dir, file fs.FileInfo) error { return nil }
func ownDir(made, parent *os.Root) error                          { return nil }

// OwnIn does nothing: files inherit the rights of their directory there.
func OwnIn(root *os.Root, name string, like *os.Root) error { return nil }

// MkdirAs makes a directory, which inherits the rights of its parent.
func MkdirAs(parent *os.Root, name string) error { return parent.Mkdir(name, 0o700) }

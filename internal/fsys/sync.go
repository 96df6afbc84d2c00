package fsys

import (
	"os"
	"runtime"
)

// Sync makes what was written to a file survive a crash.
func Sync(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return syncClose(f)
}

// SyncDir makes the names in a directory survive a crash.
func SyncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil // directories cannot be synced there
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return syncClose(d)
}

// SyncDirIn is SyncDir for a directory below an open one.
func SyncDirIn(root *os.Root, name string) error {
	if runtime.GOOS == "windows" {
		return nil // directories cannot be synced there
	}
	d, err := root.Open(name)
	if err != nil {
		return err
	}
	return syncClose(d)
}

func syncClose(f *os.File) error {
	err := f.Sync()
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}

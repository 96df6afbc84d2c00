package fsys

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// noWait: opening does not wait there.
const noWait = 0

// lockOffset is where the lock is: nobody else can read what is locked, and
// what stands in front of it, such as a process id, is there to be read.
const lockOffset = 1 << 30

// TryLock takes the lock of a file, which ends when it is closed and with the
// program at the latest, and reports false when another one has it.
func TryLock(f *os.File) (bool, error) {
	err := windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY,
		0, 1, 0, &windows.Overlapped{Offset: lockOffset})
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, windows.ERROR_LOCK_VIOLATION), errors.Is(err, windows.ERROR_IO_PENDING):
		return false, nil
	}
	return false, os.NewSyscallError("LockFileEx", err)
}

// removeLocked removes a directory together with the locked file in it, which
// must be closed before that.
func removeLocked(parent *os.Root, name string, lock *os.File) error {
	err := lock.Close()
	if removeErr := parent.RemoveAll(name); err == nil {
		err = removeErr
	}
	return err
}

// RemoveLocked removes a file that LockFile returned for that name, and closes
// it before.
func RemoveLocked(root *os.Root, name string, f *os.File) error {
	err := f.Close()
	if removeErr := root.Remove(name); err == nil {
		err = removeErr
	}
	return err
}

// OwnOpenAs does nothing: files inherit the rights of their directory there.
func OwnOpenAs(f *os.File, like string) error { return nil }

// Free returns how many bytes this account can still store below a directory.
func Free(dir string) (uint64, error) {
	name, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return 0, err
	}
	var free uint64
	if err := windows.GetDiskFreeSpaceEx(name, &free, nil, nil); err != nil {
		return 0, &os.PathError{Op: "GetDiskFreeSpaceEx", Path: dir, Err: err}
	}
	return free, nil
}

// IsFull reports whether an error says that there is no room left.
func IsFull(err error) bool {
	return errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL)
}

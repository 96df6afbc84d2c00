package host

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"mrci.dev/mrci/internal/conf"
	"mrci.dev/mrci/internal/control"
)

// Occupy keeps hosts out of the directories until leave is called: for what
// must not happen beside a running one. It fails when there is one.
func Occupy(dirs conf.Dirs) (leave func() error, err error) {
	var made []string // directories that are there for the locks alone
	for _, dir := range []string{dirs.Runtime, dirs.Data} {
		if _, err := os.Stat(dir); err != nil {
			made = append(made, dir)
		}
	}
	locks, err := lock(dirs, control.Occupy)
	if err != nil {
		return nil, err
	}
	return func() error {
		err := release(locks)
		for _, dir := range made {
			_ = os.Remove(dir) // unless something is in it by now
		}
		return err
	}, nil
}

// lock makes the caller the only host of the directories. The data can be
// reached with another runtime directory, for example by a job without
// XDG_RUNTIME_DIR, and has a lock of its own then. The first lock is that of
// the runtime directory.
func lock(dirs conf.Dirs, acquire func(string) (*control.Lock, error)) ([]*control.Lock, error) {
	places := []string{dirs.Runtime}
	if !strings.HasPrefix(dirs.Runtime, dirs.Data+string(filepath.Separator)) {
		places = append(places, dirs.Data)
	}
	var locks []*control.Lock
	for _, dir := range places {
		l, err := acquire(dir)
		if err != nil {
			return nil, errors.Join(err, release(locks))
		}
		locks = append(locks, l)
	}
	return locks, nil
}

func release(locks []*control.Lock) error {
	var errs []error
	for _, l := range locks {
		errs = append(errs, l.Release())
	}
	return errors.Join(errs...)
}

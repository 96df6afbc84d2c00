package control_test

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"mrci.dev/mrci/internal/control"
)

func TestLock(t *testing.T) {
	dir := filepath.Join(shortDir(t), "below", "run")
	lock, err := control.Acquire(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Release()
	if lock.Dir() != dir {
		t.Errorf("directory: got %q, want %q", lock.Dir(), dir)
	}

	_, err = control.Acquire(dir)
	var held *control.HeldError
	if !errors.As(err, &held) {
		t.Fatalf("second lock: got %v, want a *HeldError", err)
	}
	if held.Dir != dir || held.PID != os.Getpid() {
		t.Errorf("second lock: held in %q by %d, want %q by %d", held.Dir, held.PID, dir, os.Getpid())
	}
	for _, part := range []string{dir, strconv.Itoa(os.Getpid()), "mrci stop", "--dir"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q does not tell %q", err, part)
		}
	}

	for range 2 {
		if err := lock.Release(); err != nil {
			t.Errorf("release: %v", err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, control.LockName)); runtime.GOOS != "windows" && !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("lock file after release: %v, want none", err)
	}
	again, err := control.Acquire(dir)
	if err != nil {
		t.Fatalf("after release: %v", err)
	}
	again.Release()
}

// TestLockLeftOver starts over whatever a crash, or a person, has left.
func TestLockLeftOver(t *testing.T) {
	for name, text := range map[string]string{
		"empty": "", "own pid": strconv.Itoa(os.Getpid()), "pid of init": "1\n", "garbage": strings.Repeat("x", 1000),
	} {
		t.Run(name, func(t *testing.T) {
			dir := shortDir(t)
			file := filepath.Join(dir, control.LockName)
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			lock, err := control.Acquire(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer lock.Release()
			if got, err := os.ReadFile(file); string(got) != strconv.Itoa(os.Getpid())+"\n" {
				t.Errorf("lock file: %q (%v), want the pid alone", got, err)
			}
		})
	}
	t.Run("a directory in its place", func(t *testing.T) {
		dir := shortDir(t)
		if err := os.Mkdir(filepath.Join(dir, control.LockName), 0o700); err != nil {
			t.Fatal(err)
		}
		if lock, err := control.Acquire(dir); err == nil {
			lock.Release()
			t.Error("locked, want an error")
		}
	})
}

// TestLockCrash has another process hold the lock and be killed.
func TestLockCrash(t *testing.T) {
	dir := shortDir(t)
	cmd := exec.Command(os.Args[0], dir)
	cmd.Env = append(os.Environ(), quickExit, childEnv+"=lock")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil || line != "locked\n" {
		cmd.Process.Kill()
		cmd.Wait()
		t.Fatalf("the other process says %q, %v", line, err)
	}
	_, err = control.Acquire(dir)
	var held *control.HeldError
	if !errors.As(err, &held) || held.PID != cmd.Process.Pid {
		t.Errorf("lock: got %v, want one that names pid %d", err, cmd.Process.Pid)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait() // it was killed
	lock, err := control.Acquire(dir)
	if err != nil {
		t.Fatalf("after the crash: %v", err)
	}
	lock.Release()
}

// TestLockRace has many take and release the lock, which removes the file: at
// no time two have it.
func TestLockRace(t *testing.T) {
	dir := shortDir(t)
	var holders, taken atomic.Int32
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 300 {
				lock, err := control.Acquire(dir)
				var held *control.HeldError
				if errors.As(err, &held) {
					continue
				}
				if err != nil {
					t.Errorf("lock: %v", err)
					return
				}
				if n := holders.Add(1); n != 1 {
					t.Errorf("%d hold the lock", n)
				}
				taken.Add(1)
				runtime.Gosched()
				holders.Add(-1)
				if err := lock.Release(); err != nil {
					t.Errorf("release: %v", err)
				}
			}
		})
	}
	all.Wait()
	if taken.Load() == 0 {
		t.Error("nobody had the lock")
	}
}

// TestLockRemovedByHand must not remove the file of the next holder.
func TestLockRemovedByHand(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("an open file cannot be removed")
	}
	dir := shortDir(t)
	first, err := control.Acquire(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, control.LockName)); err != nil {
		t.Fatal(err)
	}
	second, err := control.Acquire(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Release()
	if err := first.Release(); err != nil {
		t.Error(err)
	}
	if _, err := control.Acquire(dir); err == nil {
		t.Error("the first holder has removed the file of the second")
	}
}

package modeltest

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"mrci.dev/mrci/internal/host/hosttest"
	"mrci.dev/mrci/wire"
)

// How many steps there are, by default and when there is time. A host does not
// live for all of them: its logs would fill the memory that they stand in.
const (
	ciSteps   = 100_000
	slowSteps = ciSteps / 5 // with the race detector, or with files on a disk
	longSteps = 10_000_000
	roundMax  = 50_000
)

// TestLockstep does one thing after the other, and compares every frame.
func TestLockstep(t *testing.T) {
	steps, seed := wanted(t)
	round := min(roundMax, (steps+1)/2) // at least two, of two kinds
	began := time.Now()
	for done := 0; done < steps; seed++ {
		n := min(round, steps-done)
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			start := time.Now()
			// Every other host makes all sub-channels active (state 4).
			r := onHost(t, seed, seed%2 == 1)
			if err := r.run(n); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			t.Logf("%d steps, %v each", n, (time.Since(start) / time.Duration(n)).Round(100*time.Nanosecond))
		})
		if t.Failed() {
			t.Fatalf("MRCI_TEST_SEED=%d MRCI_TEST_STEPS=%d repeats it", seed, 2*n)
		}
		done += n
	}
	t.Logf("%d steps in %v", steps, time.Since(began).Round(time.Second))
}

// wanted returns how many steps there are to do, and the seed.
func wanted(t *testing.T) (steps int, seed uint64) {
	steps = ciSteps
	switch {
	case os.Getenv("MRCI_TEST_STEPS") != "":
		n, err := strconv.Atoi(os.Getenv("MRCI_TEST_STEPS"))
		if err != nil || n < 1 {
			t.Fatalf("MRCI_TEST_STEPS: %q is no number of steps", os.Getenv("MRCI_TEST_STEPS"))
		}
		steps = n
	case os.Getenv("MRCI_TEST_LONG") != "":
		steps = longSteps
	case testing.Short():
		steps = ciSteps / 50
	case raceEnabled, !inMemory():
		steps = slowSteps
	}
	seed = uint64(time.Now().UnixNano()) % 1e9
	if text := os.Getenv("MRCI_TEST_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("MRCI_TEST_SEED: %q is no number", text)
		}
	}
	t.Logf("MRCI_TEST_SEED=%d", seed)
	return steps, seed
}

// memory is where Linux has files in memory: what is stored there durably costs
// next to nothing.
const memory = "/dev/shm"

func inMemory() bool {
	info, err := os.Stat(memory)
	return err == nil && info.IsDir()
}

// memoryDir is a directory in memory where the system has one.
func memoryDir(t *testing.T) string {
	if !inMemory() {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp(memory, "modeltest")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// onHost is a runner on a running host, whose users are those of its world.
func onHost(t *testing.T, seed uint64, allActive bool) *runner {
	h, commands, users := startHost(t, allActive, maxSubs)
	w := newWorld(commands)
	w.allActive = allActive
	for i, u := range w.users {
		u.id = users[i]
	}
	link, err := newClients(h, "modeltest", w.byName["my_info"].id)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(link.stop)
	return newRunner(seed, w, link)
}

// startHost starts a host for the world, with its users, and returns what it
// offers and the users' ids.
func startHost(t *testing.T, allActive bool, subs int) (*hosttest.Host, []command, []wire.UserID) {
	t.Helper()
	h := hosttest.Start(t, hosttest.Dir(memoryDir(t)), hosttest.Set(
		"log_level=warn",
		fmt.Sprintf("initial_rank=%d", initialRank), fmt.Sprintf("max_sub_channels=%d", subs),
		fmt.Sprintf("all_channels_active_update=%v", allActive),
		// Limits are other tests' business; requests come as fast as they can.
		"p2p_requests_per_min=1000000", "auto_lock_limit=1000",
	))
	var users []wire.UserID
	for _, u := range newWorld(nil).users {
		users = append(users, h.User(u.name, u.rank).ID)
	}
	return h, offers(t, h), users
}

// offers assigns the ranks of the commands, and returns what the host offers:
// to nobody, to everybody and to the administrator.
func offers(t *testing.T, h *hosttest.Host) []command {
	t.Helper()
	h.User("everybody", 9)
	anonymous, everybody, admin := h.Connect(), h.Connect(), h.Connect()
	everybody.Login("everybody")
	admin.Login(userNames[0])
	for _, name := range used {
		_, exempt := everybody.Commands[name]
		if _, there := admin.Commands[name]; !there {
			t.Skipf("the host does not offer %s", name)
		}
		if exempt || administration[name] {
			continue
		}
		args := fmt.Sprintf("-command %s -rank %d", name, rankOf(name))
		if got := hosttest.Kinds(admin.Call("add_ranked_cmd", args)); got != "IDLE 1" {
			t.Fatalf("add_ranked_cmd %s: %s", args, got)
		}
	}
	var commands []command
	all := make(map[string]wire.CommandInfo)
	for _, c := range []*hosttest.Client{anonymous, everybody, admin} {
		for name, info := range c.Commands {
			all[name] = info
		}
	}
	for name, info := range all {
		c := command{name: name, id: info.ID, added: wire.Append(nil, &info), rank: 1}
		_, c.public = anonymous.Commands[name]
		_, c.exempt = everybody.Commands[name]
		if slices.Contains(used, name) {
			c.rank = rankOf(name)
		}
		commands = append(commands, c)
	}
	slices.SortFunc(commands, func(a, b command) int { return int(a.id) - int(b.id) })
	for _, c := range []*hosttest.Client{anonymous, everybody, admin} {
		if err := c.Conn.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return commands
}

package host_test

import (
	"runtime"
	"strings"
	"testing"
	"time"

	"mrci.dev/mrci/internal/host"
	"mrci.dev/mrci/internal/host/hosttest"
	"mrci.dev/mrci/wire"
)

// waitUntil returns when the host has got so far.
func waitUntil(t *testing.T, what string, reached func() bool) {
	t.Helper()
	end := time.Now().Add(time.Minute)
	for tick := time.NewTicker(time.Millisecond); !reached(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("it does not come about that %s", what)
		}
	}
}

// Whoever connects again and again, or tries what is not offered, fills neither
// the log nor the tables of the logs; users leave what they always do.
func TestFloodFillsNoLog(t *testing.T) {
	h := hosttest.Start(t, hosttest.Set("limit_loopback=true"))
	h.User("alice", 1)
	const visits = 600 // two rows each, of which an address has 1000 an hour
	for range visits {
		c := h.Connect()
		c.Conn.Close()
	}
	alice := h.Connect()
	alice.Login("alice")
	ranked := alice.ID("ls_users")
	c := h.Connect()
	for range 1000 { // a hundred may be recorded of one session
		c.Send(wire.Text, ranked, 0, "")
		c.UntilIdle(ranked, 0)
	}
	c.Conn.Close()
	waitUntil(t, "the visitors are gone", func() bool { return h.Sessions() == 1 })
	if dropped := h.Status().Counters["dropped"]["stranger_rows"]; dropped == 0 {
		t.Error("no row was dropped")
	}
	if shown := strings.Count(h.Log(), `msg="session started"`); shown == 0 || shown >= visits/2 {
		t.Errorf("%d lines about %d sessions", shown, visits)
	}
	session := alice.Header.Session.String()
	alice.Conn.Close()
	waitUntil(t, "the user is gone", func() bool { return h.Sessions() == 0 })
	watcher := h.Connect()
	watcher.Login("alice")
	if audit := hosttest.Texts(wire.Text, watcher.Call("ls_audit", "-command ls_users")); strings.Contains(audit, "ls_users") {
		t.Errorf("refusals are recorded beyond the bound:\n%s", audit)
	}
	if log := hosttest.Texts(wire.Text, watcher.Call("ls_act_log", "-session_id "+session)); !strings.Contains(log, "session ended") {
		t.Errorf("the end of a user's session is missing:\n%s", log)
	}
}

// Calls of one branch that wait for each other are not touched again after each
// of them: that would cost the host much more than the client who sends them.
func TestManyCallsOfOneBranch(t *testing.T) {
	h := hosttest.Start(t, hosttest.Set("log_level=info"))
	h.User("alice", 1)
	for name, between := range map[string][]wire.TypeID{
		"calls":                   {wire.Text, wire.Text},
		"calls, some terminated":  {wire.Text, wire.Text, wire.Text, wire.TermCmd},
		"calls, some interrupted": {wire.Text, wire.Text, wire.YieldCmd, wire.ResumeCmd},
	} {
		t.Run(name, func(t *testing.T) {
			c := h.Connect()
			c.Login("alice")
			id := c.ID("ls_cmds")
			const calls = 20_000
			var requests []byte
			for range calls / 2 {
				for _, what := range between {
					payload := ""
					if what == wire.Text {
						payload = "-find nothing_has_this_name"
					}
					requests = wire.AppendText(requests, what, id, 1, payload)
				}
			}
			requests = wire.AppendText(requests, wire.Text, id, 1, "-command_name ls_users")
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			sent := make(chan error, 1)
			if err := c.Conn.SetWriteDeadline(time.Now().Add(5 * time.Minute)); err != nil { // it has a lot to do
				t.Fatal(err)
			}
			go func() { // ends when the host has taken all; awaited below
				_, err := c.Conn.Write(requests)
				sent <- err
			}()
			for done := false; !done; { // up to the answer to the last call
				f := c.Next()
				done = f.Type == wire.Text && f.Cmd == id && strings.Contains(string(f.Payload), "ls_users")
			}
			if err := <-sent; err != nil {
				t.Error(err)
			}
			runtime.ReadMemStats(&after)
			each := (after.TotalAlloc - before.TotalAlloc) / calls
			t.Logf("%d bytes are allocated for each call", each)
			if each > 64<<10 {
				t.Errorf("each of %d calls makes the host allocate %d bytes", calls, each)
			}
		})
	}
}

// After a burst there is room for a line now and then, which tells of those
// that were left out.
func TestQuietLog(t *testing.T) {
	admit := host.QuietLog()
	now := time.Now()
	shown := 0
	for range 1000 {
		if _, ok := admit(now); ok {
			shown++
		}
	}
	if shown != 20 {
		t.Errorf("%d lines of a thousand at once, want 20", shown)
	}
	if omitted, ok := admit(now.Add(time.Second)); !ok || omitted != 980 {
		t.Errorf("a second later: %v, %d omitted, want a line and 980", ok, omitted)
	}
	shown = 0
	for n := range 600_000 {
		if _, ok := admit(now.Add(time.Duration(n) * time.Millisecond)); ok {
			shown++
		}
	}
	if shown > 1220 { // 2 a second in ten minutes
		t.Errorf("%d lines in ten minutes of a flood", shown)
	}
}

package host_test

import (
	"context"
	"testing"
	"time"

	"mrci.dev/mrci/client"
	"mrci.dev/mrci/internal/host/hosttest"
)

func TestLogInAndRunCommands(t *testing.T) {
	h := hosttest.Start(t)
	h.User("alice", 1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := client.Dial(ctx, h.Address(), client.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Login(ctx, "alice", client.WithPassword(hosttest.Password)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"my_info", "host_info", "ls_cmds", "ls_users", "logout"} {
		var text string
		call, err := c.Call(ctx, name, "-all") // which only listings look at
		if err != nil {
			t.Fatal(err)
		}
		for f, err := range call.Frames(ctx) {
			if err != nil {
				t.Fatal(err)
			}
			text += f.Type.String() + " " + string(f.Payload)
		}
		t.Logf("%s: %s%v", name, text, call.Result())
	}
}

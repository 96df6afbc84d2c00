package host_test

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/internal/host/hosttest"
	"mrci.dev/mrci/wire"
)

// said is one line of a recorded conversation (wire/testdata/README.md).
type said struct {
	Dir   string `json:"dir"`
	Kind  string `json:"kind"`
	Cmd   int    `json:"cmd"`
	Hex   string `json:"hex"`
	bytes []byte
}

func recording(t *testing.T, name string) []said {
	t.Helper()
	f, err := os.Open(filepath.Join("..", "..", "wire", "testdata", "recorded", name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []said
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var line said
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			t.Fatal(err)
		}
		if line.bytes, err = hex.DecodeString(line.Hex); err != nil {
			t.Fatal(err)
		}
		all = append(all, line)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// dialRecorded sends the recorded client header as it is.
func dialRecorded(t *testing.T, h *hosttest.Host, line said) *hosttest.Client {
	t.Helper()
	header, err := wire.ParseClientHeader((*[wire.ClientHeaderSize]byte)(line.bytes))
	if err != nil || string(header.Append(nil)) != string(line.bytes) {
		t.Fatalf("header: %v", err)
	}
	return hosttest.Dial(t, h.Address(), header)
}

// frameOf is the frame of a line, for a host that gave the command another id.
func frameOf(t *testing.T, line said, id wire.CmdID) []byte {
	t.Helper()
	f, _, ok := wire.CutFrame(line.bytes)
	if !ok {
		t.Fatalf("not a frame: %s", line.Hex)
	}
	return wire.AppendFrame(nil, f.Type, id, f.Branch, f.Payload)
}

// TestRecordedHandshake replays a recorded beginning: the header, RDY, a frame
// to an id that does not exist, on branch 7, and a call without arguments. The
// host of the recording left the unknown id without an IDLE; here it gets
// ERR and IDLE 3 on its own branch (protocol 2).
func TestRecordedHandshake(t *testing.T) {
	rows := recording(t, "handshake.jsonl")
	h := hosttest.Start(t)
	c := dialRecorded(t, h, rows[0])
	recorded, err := wire.ParseHostHeader((*[wire.HostHeaderSize]byte)(rows[1].bytes))
	if err != nil {
		t.Fatal(err)
	}
	if c.Header.Reply != recorded.Reply || c.Header.Version != recorded.Version {
		t.Errorf("host header %+v, recorded %+v", c.Header, recorded)
	}
	frames := c.Ready()
	for i, f := range frames {
		if last := i == len(frames)-1; last != (f.Cmd == wire.CmdID(wire.AsyncRdy)) || !last && f.Type != wire.NewCmd {
			t.Errorf("frame %d before ready is %s", i, hosttest.Kinds(frames[i:i+1]))
		}
	}
	if ready, _, _ := wire.CutFrame(rows[2].bytes); frames[len(frames)-1].Type != ready.Type || frames[len(frames)-1].Branch != ready.Branch {
		t.Error("RDY is no TEXT on branch 0")
	}
	c.Write(rows[3].bytes) // 60000 on branch 7
	unknown := c.UntilIdle(60000, 7)
	wantKinds(t, unknown, "ERR, IDLE 3")
	c.Write(frameOf(t, rows[4], c.ID("my_info")))
	answer := c.UntilIdle(c.ID("my_info"), 0)
	if last := hosttest.Kinds(answer[len(answer)-1:]); last != "IDLE 1" {
		t.Errorf("my_info ended with %s, recorded IDLE 1", last)
	}
}

// TestRecordedPasswordChange replays a login with a wrong password, the right
// one, an unacceptable new one and a good one. What was recorded of the answer
// is its IDLE and the RM_CMD behind it; here nothing is taken away that the
// user may still run (commands 1.1), and what comes and goes stands behind the
// IDLE.
func TestRecordedPasswordChange(t *testing.T) {
	rows := recording(t, "auth-password-change.jsonl")
	var fromClient []said
	for _, row := range rows[1:] {
		if row.Dir == "c>h" {
			fromClient = append(fromClient, row)
		}
	}
	text := func(i int) string {
		f, _, _ := wire.CutFrame(fromClient[i].bytes)
		return string(f.Payload)
	}
	user, old := text(0)[len("-user "):], account.Secret(text(2))
	h := hosttest.Start(t)
	u, err := h.Accounts().Create(t.Context(), account.NewAccount{Name: user, Email: user + "@example.org"}, old)
	if err != nil {
		t.Fatal(err)
	}
	h.Change(u.ID, func(r *account.Record) error { r.NewPasswordReq = true; return nil })
	c := dialRecorded(t, h, rows[0])
	c.Ready()
	id := c.ID("auth")
	for _, line := range fromClient { // in one go, as prompts need not be waited for
		c.Write(frameOf(t, line, id))
	}
	frames := c.UntilIdle(id, 0)
	wantKinds(t, frames, "PRIV_TEXT, ERR, PRIV_TEXT, PRIV_TEXT, ERR, PRIV_TEXT, MY_INFO@SYS_MSG, TEXT, IDLE 1")
	end, _, _ := wire.CutFrame(rows[slices.IndexFunc(rows, func(s said) bool { return s.Kind == "IDLE" })].bytes)
	if got := frames[len(frames)-1]; string(got.Payload) != string(end.Payload) {
		t.Errorf("IDLE carries %x, recorded %x", got.Payload, end.Payload)
	}
	behind := c.Call("my_info", "")
	gained := behind[:len(behind)-2]
	if len(gained) == 0 {
		t.Error("no list behind the IDLE")
	}
	for _, f := range gained {
		if f.Type != wire.NewCmd && f.Type != wire.CommandID {
			t.Errorf("behind the IDLE: %s", hosttest.Kinds([]wire.Frame{f}))
		}
	}
	if _, err := h.Accounts().Authenticate(t.Context(), account.Login{Name: user}, account.Secret(text(4)), h.Addr().Addr()); err != nil {
		t.Errorf("the new password: %v", err)
	}
}

package bench

import (
	"context"
	"fmt"

	"mrci.dev/mrci/internal/bench/raw"
	"mrci.dev/mrci/wire"
)

// Script is what a host said to a client, for a floor to say the same. All
// answers are those to calls under the branch that this package uses.
type Script struct {
	Greeting []byte `json:"greeting"` // ADD_CMD frames and RDY

	MyInfo wire.CmdID `json:"my_info"`
	Answer []byte     `json:"answer"` // to my_info: TEXT and IDLE

	Auth     wire.CmdID `json:"auth"`
	Prompt   []byte     `json:"prompt"`
	LoggedIn []byte     `json:"logged_in"` // to the password: MY_INFO, TEXT, IDLE, the list

	Logout    wire.CmdID `json:"logout"`
	LoggedOut []byte     `json:"logged_out"`

	ListFrames int `json:"list_frames"` // that follow the IDLE of auth
}

// recordScript logs in on the host at addr and notes what it says.
func recordScript(ctx context.Context, addr string, a raw.Account) (*Script, error) {
	p, err := raw.Connect(ctx, addr)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	s := &Script{}
	p.Record = &s.Greeting
	if err := p.ReadGreeting(); err != nil {
		return nil, fmt.Errorf("greeting: %w", err)
	}
	if s.MyInfo, err = p.ID("my_info"); err != nil {
		return nil, err
	}
	p.Record = &s.Prompt
	if s.Auth, err = p.Ask(a.Name); err != nil {
		return nil, err
	}
	// Everything before the answer to my_info belongs to the login.
	if s.LoggedIn, s.ListFrames, err = collect(p, wire.AppendText(nil, wire.Text, s.Auth, raw.Branch, a.Password), s.Auth, s.MyInfo); err != nil {
		return nil, fmt.Errorf("login: %w", err)
	}
	if s.Logout, err = p.ID("logout"); err != nil {
		return nil, err
	}
	p.Record = &s.Answer
	if err := p.Call(wire.AppendText(nil, wire.Text, s.MyInfo, raw.Branch, ""), s.MyInfo); err != nil {
		return nil, fmt.Errorf("my_info: %w", err)
	}
	if s.LoggedOut, _, err = collect(p, wire.AppendText(nil, wire.Text, s.Logout, raw.Branch, ""), s.Logout, s.MyInfo); err != nil {
		return nil, fmt.Errorf("logout: %w", err)
	}
	return s, nil
}

// collect sends a request, and behind it my_info, whose answer tells that all
// that belongs to the request has come. It returns that, and how many frames
// of it stood behind the IDLE of cmd.
func collect(p *raw.Client, request []byte, cmd, myInfo wire.CmdID) (said []byte, behind int, err error) {
	p.Record = nil
	if _, err := p.Conn.Write(request); err != nil {
		return nil, 0, err
	}
	idle := false
	for {
		f, err := p.Next()
		if err != nil {
			return nil, 0, err
		}
		if err := p.NoteCommand(f); err != nil {
			return nil, 0, err
		}
		if f.Cmd == myInfo {
			return said, behind, p.UntilIdle(myInfo)
		}
		said = wire.AppendFrame(said, f.Type, f.Cmd, f.Branch, f.Payload)
		if idle {
			behind++
		}
		if f.Type == wire.Idle && f.Cmd == cmd {
			if code, _, err := wire.ParseIdle(f.Payload); err != nil || code != wire.NoErrors {
				return nil, 0, fmt.Errorf("ended with %v (%v)", code, err)
			}
			idle = true
			if _, err := p.Conn.Write(wire.AppendText(nil, wire.Text, myInfo, raw.Branch, "")); err != nil {
				return nil, 0, err
			}
		}
	}
}

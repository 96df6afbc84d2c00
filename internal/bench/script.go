package bench

import (
	"context"
	"fmt"

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
func recordScript(ctx context.Context, addr string, a account) (*Script, error) {
	p, err := connect(ctx, addr)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	s := &Script{}
	p.record = &s.Greeting
	if err := p.readGreeting(); err != nil {
		return nil, fmt.Errorf("greeting: %w", err)
	}
	if s.MyInfo, err = p.id("my_info"); err != nil {
		return nil, err
	}
	p.record = &s.Prompt
	if s.Auth, err = p.ask(a.Name); err != nil {
		return nil, err
	}
	// Everything before the answer to my_info belongs to the login.
	if s.LoggedIn, s.ListFrames, err = collect(p, wire.AppendText(nil, wire.Text, s.Auth, branch, a.Password), s.Auth, s.MyInfo); err != nil {
		return nil, fmt.Errorf("login: %w", err)
	}
	if s.Logout, err = p.id("logout"); err != nil {
		return nil, err
	}
	p.record = &s.Answer
	if err := p.call(wire.AppendText(nil, wire.Text, s.MyInfo, branch, ""), s.MyInfo); err != nil {
		return nil, fmt.Errorf("my_info: %w", err)
	}
	if s.LoggedOut, _, err = collect(p, wire.AppendText(nil, wire.Text, s.Logout, branch, ""), s.Logout, s.MyInfo); err != nil {
		return nil, fmt.Errorf("logout: %w", err)
	}
	return s, nil
}

// collect sends a request, and behind it my_info, whose answer tells that all
// that belongs to the request has come. It returns that, and how many frames
// of it stood behind the IDLE of cmd.
func collect(p *peer, request []byte, cmd, myInfo wire.CmdID) (said []byte, behind int, err error) {
	p.record = nil
	if _, err := p.nc.Write(request); err != nil {
		return nil, 0, err
	}
	idle := false
	for {
		f, err := p.next()
		if err != nil {
			return nil, 0, err
		}
		if err := p.noteCommand(f); err != nil {
			return nil, 0, err
		}
		if f.Cmd == myInfo {
			return said, behind, p.untilIdle(myInfo)
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
			if _, err := p.nc.Write(wire.AppendText(nil, wire.Text, myInfo, branch, "")); err != nil {
				return nil, 0, err
			}
		}
	}
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"mrci.dev/mrci/client"
	"mrci.dev/mrci/internal/tui"
	"mrci.dev/mrci/wire"
)

type runCmd struct {
	Session sessionFlags `embed:""`

	JSON  bool   `name:"json" help:"Print a JSON object per frame."`
	Input string `placeholder:"FILE" help:"Answer prompts with the lines of FILE, - for standard input."`
	Raw   string `placeholder:"TEXT" help:"Send TEXT as the arguments, as it is."`
	Type  string `placeholder:"NAME" help:"Send a frame of this type, such as BYTES, instead of TEXT."`
	Data  string `placeholder:"FILE" help:"Send the content of FILE, - for standard input, instead of arguments."`

	Host    string   `arg:"" name:"HOST" help:"ADDR[:PORT]; options stand before it."`
	Command []string `arg:"" name:"COMMAND" passthrough:"partial" help:"The command and its arguments, one word each."`
}

func (cmd *runCmd) Run(a *app) error {
	if err := cmd.check(); err != nil {
		return exitError{exitUsage, err}
	}
	payload, err := cmd.payload(a)
	if err != nil {
		return exitError{exitUsage, err}
	}
	input, answers, err := cmd.openInput(a)
	if err != nil {
		return exitError{exitUsage, err}
	}
	defer input.Restore()

	ctx, cancel := withTimeout(cmd.Session.Timeout)
	defer cancel(nil)
	var stop stopper
	interrupted := func() {
		if !stop.press() {
			cancel(errInterrupted)
		}
	}
	input.OnInterrupt(interrupted)
	defer a.watchInterrupts(interrupted)()
	l, err := a.open(ctx, cmd.Host, cmd.Session, input, 0, nil)
	if err != nil {
		return err
	}
	defer l.Close()
	info, err := l.Lookup(cmd.Command[0])
	if err != nil {
		return clientError(ctx, err)
	}
	if err := refuseTransfer(info); err != nil {
		return err
	}
	request := client.Request{Command: info.Name, Payload: payload, Events: true}
	request.Type, _ = wire.TypeByName(strings.ToUpper(cmd.Type)) // checked
	if payload == nil {
		request.Payload = []byte(client.QuoteFor(info.IO, cmd.Command[1:]...))
	}
	out := &output{app: a, json: cmd.JSON, progress: !cmd.JSON && tui.IsTerminal(a.stderr)}
	result, err := l.Do(ctx, request, client.Handlers{
		Frame: func(f wire.Frame) error { return out.frame(f, info.Name) },
		Answer: func(ctx context.Context, q client.Question) (string, error) {
			return l.answer(ctx, q, answers, out)
		},
		Started: func(call *client.Call) {
			out.branch = call.Branch()
			stop.watch(call, func() { l.Close() })
		},
	})
	stop.watch(nil, nil)
	return out.end(ctx, info, result, err)
}

// check finds options that do not go together.
func (cmd *runCmd) check() error {
	args := len(cmd.Command) > 1
	switch {
	case cmd.Raw != "" && (args || cmd.Data != ""):
		return errors.New("--raw stands in place of arguments and --data")
	case cmd.Data != "" && args:
		return errors.New("--data stands in place of arguments")
	case cmd.Data == "-" && cmd.Input == "-":
		return errors.New("--data and --input cannot both be standard input")
	case cmd.Type == "":
		return nil
	}
	t, ok := wire.TypeByName(strings.ToUpper(cmd.Type))
	if !ok {
		return fmt.Errorf("--type %s: no such type", cmd.Type)
	}
	if t.IsControl() {
		return fmt.Errorf("--type %s: it cannot start a command", cmd.Type)
	}
	return nil
}

// payload returns the first frame's payload as the options give it, or nil if
// it is made of the argument words.
func (cmd *runCmd) payload(a *app) ([]byte, error) {
	if cmd.Raw != "" {
		return []byte(cmd.Raw), nil
	}
	if cmd.Data == "" {
		return nil, nil
	}
	from := a.stdin
	if cmd.Data != "-" {
		f, err := os.Open(cmd.Data)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		from = f
	}
	data, err := io.ReadAll(io.LimitReader(from, wire.MaxPayload+1))
	if err != nil {
		return nil, err
	}
	if len(data) > wire.MaxPayload {
		return nil, fmt.Errorf("%s: more than the %d bytes of a frame", cmd.Data, wire.MaxPayload)
	}
	if data == nil {
		data = []byte{}
	}
	return data, nil
}

// openInput returns the person's input and, if --input is given, the lines
// that answer prompts.
func (cmd *runCmd) openInput(a *app) (person, answers *tui.Input, err error) {
	person = tui.NewInput(a.stdin)
	switch cmd.Input {
	case "":
		return person, nil, nil
	case "-":
		return person, person, nil
	}
	f, err := os.Open(cmd.Input) // closed with the process
	if err != nil {
		return nil, nil, err
	}
	return person, tui.NewInput(f), nil
}

// refuseTransfer refuses commands that other sub-commands speak with.
func refuseTransfer(info wire.CommandInfo) error {
	switch info.GenFile {
	case wire.Upload:
		return exitError{exitUsage, fmt.Errorf("%s transfers files: use mrci put", info.Name)}
	case wire.Download:
		return exitError{exitUsage, fmt.Errorf("%s transfers files: use mrci get", info.Name)}
	}
	return nil
}

// answer answers a prompt by the next line of answers or, without those, by
// the person. When nobody is there it cancels the command.
func (l *link) answer(ctx context.Context, q client.Question, answers *tui.Input, out *output) (string, error) {
	if answers == nil && l.canAsk() {
		out.endLine()
		return noMore(l.ask(ctx, q))
	}
	if !out.json {
		fmt.Fprint(l.app.stderr, q.Text)
	}
	if answers == nil {
		return "", client.ErrNoAnswer
	}
	if q.Hidden {
		return noMore(answers.Hidden(ctx))
	}
	return noMore(answers.Line(ctx))
}

// noMore makes the end of the input cancel the command.
func noMore(answer string, err error) (string, error) {
	if err == io.EOF {
		err = client.ErrNoAnswer
	}
	return answer, err
}

// output prints the frames of one call (cli 2).
type output struct {
	app      *app
	json     bool
	progress bool // stderr shows a bar
	branch   wire.BranchID

	inBar bool // the last thing on stderr is the bar
	buf   []byte
}

// frame prints a frame of the call, or an async one.
func (o *output) frame(f wire.Frame, command string) error {
	if o.json {
		o.buf = tui.AppendJSON(o.buf[:0], f, command)
		_, err := o.app.stdout.Write(o.buf)
		return err
	}
	if f.Cmd.IsAsync() {
		if f.Cmd != wire.CmdID(wire.AsyncSysMsg) || f.Type != wire.Text && f.Type != wire.Err {
			return nil
		}
		o.endLine()
		_, err := o.app.stderr.Write(f.Payload)
		return err
	}
	var err error
	switch f.Type {
	case wire.PromptText, wire.PrivText: // shown when it is answered
	case wire.Prog, wire.ProgLast:
		o.bar(f)
	case wire.Text, wire.BigText, wire.Bytes:
		o.endLine()
		_, err = o.app.stdout.Write(f.Payload)
	case wire.Err:
		o.endLine()
		_, err = o.app.stderr.Write(f.Payload)
	default:
		o.endLine()
		_, err = fmt.Fprintln(o.app.stdout, tui.Line(f))
	}
	return err
}

const barWidth = 40

// bar draws the progress of the command.
func (o *output) bar(f wire.Frame) {
	if !o.progress || len(f.Payload) != 1 {
		return
	}
	done := min(int(f.Payload[0]), 100)
	filled := done * barWidth / 100
	fmt.Fprintf(o.app.stderr, "\r[%s%s] %3d%%", strings.Repeat("#", filled), strings.Repeat(".", barWidth-filled), done)
	o.inBar = true
	if f.Type == wire.ProgLast {
		o.endLine()
	}
}

// endLine leaves the line of the bar.
func (o *output) endLine() {
	if o.inBar {
		fmt.Fprintln(o.app.stderr)
		o.inBar = false
	}
}

// end prints how the call ended and returns it as an exit status.
func (o *output) end(ctx context.Context, info wire.CommandInfo, result client.Result, err error) error {
	o.endLine()
	if o.json && result.Code != 0 {
		o.app.stdout.Write(tui.AppendResultJSON(nil, result, info.ID, o.branch, info.Name)) // the status tells the result too
	}
	if err != nil {
		return clientError(ctx, err)
	}
	if status := exitStatus(result.Code); status != 0 {
		return exitError{status, nil}
	}
	return nil
}

// stopper makes Ctrl-C stop the call that runs: TERM_CMD, then KILL_CMD, then
// the end of the client (cli 2).
type stopper struct {
	mu      sync.Mutex
	call    *client.Call
	end     func()
	presses int
}

// watch names the call that runs, and what ends the client; a nil call means
// that none does.
func (s *stopper) watch(call *client.Call, end func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.call, s.end, s.presses = call, end, 0
}

// press handles one Ctrl-C. It reports false when no call runs.
func (s *stopper) press() bool {
	s.mu.Lock()
	call, end := s.call, s.end
	s.presses++
	presses := s.presses
	s.mu.Unlock()
	if call == nil {
		return false
	}
	// Frames that cannot be sent end the connection, which the call notices.
	switch presses {
	case 1:
		call.Term()
	case 2:
		call.Kill()
	default:
		end()
	}
	return true
}

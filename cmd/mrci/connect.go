package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"text/tabwriter"

	"mrci.dev/mrci/client"
	"mrci.dev/mrci/internal/tui"
	"mrci.dev/mrci/wire"
)

type connectCmd struct {
	Session sessionFlags `embed:""`

	Host string `arg:"" optional:"" name:"HOST" help:"ADDR[:PORT]; without it the host that runs on this machine."`
}

func (cmd *connectCmd) Run(a *app) error {
	host := cmd.Host
	if host == "" {
		host = a.localHost()
	}
	input := tui.NewInput(a.stdin)
	defer input.Restore()
	ctx, cancel := withTimeout(cmd.Session.Timeout)
	defer cancel(nil)
	defer a.watchTermination(func() { cancel(errTerminated) })()
	sh := &shell{
		app:    a,
		input:  input,
		person: input.Terminal() && tui.IsTerminal(a.stdout),
		screen: &screen{out: a.stdout},
	}
	interrupted := func() {
		if !sh.stop.press() && !sh.forgetLine() {
			cancel(errInterrupted)
		}
	}
	input.OnInterrupt(interrupted)
	defer a.watchInterrupts(interrupted)()
	columns := func() int { return tui.Columns(a.stdout) }
	var want wire.Extensions
	if sh.person {
		sh.screen.edit(input.Typed, columns) // a password is read already
		want = wire.ExtSchema                // for help
	}
	l, err := a.open(ctx, host, cmd.Session, input, want, sh.event)
	if exit, ok := errors.AsType[exitError](err); ok && exit.code == exitLost && cmd.Host == "" {
		return exitError{exitLost, fmt.Errorf("%w; is a host running? %s starts one", err, a.invocation("host"))}
	}
	if err != nil {
		return err
	}
	defer l.Close()
	sh.link = l
	sh.news.Advise(sh.offered)
	if sh.person {
		sh.edit(columns)
		defer a.watchResume(input.Resume)()
		sh.screen.notice(fmt.Sprintf("Connected to %s. Type help for the commands, exit to leave.", l.RemoteAddr()))
		if l.flags.User == "" {
			sh.screen.notice("You are not logged in: auth -user NAME does that.")
		} else {
			sh.learnChannels(ctx)
		}
	}
	// What waits for a line stops waiting when the connection ends.
	go func() {
		<-l.Done() // Close at the latest
		cancel(l.Err())
	}()
	return sh.loop(ctx)
}

// shell reads commands a line and runs them, one at a time.
type shell struct {
	app    *app
	link   *link
	input  *tui.Input
	person bool // a person types and reads
	screen *screen
	stop   stopper
	news   tui.News

	leaving atomic.Bool // Ctrl-C was the last thing typed at the prompt
}

// edit makes the screen show what a person types, and again below whatever is
// shown meanwhile, on a terminal with so many columns.
func (sh *shell) edit(columns func() int) {
	sh.screen.edit(sh.input.Typed, columns)
	sh.input.Edit(sh.screen.redraw, suspend)
}

// forgetLine is what Ctrl-C does while a person types a command: the line is
// dropped, and the prompt stands there again. It reports false
// when the person wants to leave, or there is no prompt.
func (sh *shell) forgetLine() bool {
	if !sh.person || sh.leaving.Swap(true) {
		return false
	}
	return sh.screen.again("Ctrl-C again, or exit, leaves.")
}

func (sh *shell) loop(ctx context.Context) error {
	var last error // how the last call ended
	for {
		sh.screen.prompt(sh.promptText())
		text, err := sh.input.Command(ctx)
		sh.screen.prompted(text, err == nil)
		sh.leaving.Store(false)
		switch {
		case err == io.EOF || errors.Is(err, errInterrupted):
			if sh.person {
				sh.screen.notice("")
				return nil
			}
			return last
		case err != nil && ctx.Err() != nil:
			if sh.person {
				sh.screen.notice("") // leaves the line of the prompt
			}
			return clientError(ctx, err)
		case err != nil:
			return err
		}
		name, args := cutWord(text)
		if name == "" {
			continue
		}
		leave := false
		last, leave = sh.line(ctx, name, args)
		if leave {
			return nil
		}
		if err := sh.link.Err(); err != nil {
			return clientError(ctx, err)
		}
		exit, ok := errors.AsType[exitError](last)
		switch {
		case ctx.Err() != nil || last != nil && !ok:
			return last
		case ok && exit.err != nil:
			fmt.Fprintf(sh.app.stderr, "mrci: %v\n", exit.err)
			last = exitError{exit.code, nil}
		}
	}
}

func (sh *shell) promptText() string {
	if sh.person {
		return "> "
	}
	return ""
}

// line runs one line. The error has an exit status; leave is true when the
// line ends the client.
func (sh *shell) line(ctx context.Context, name, args string) (err error, leave bool) {
	info, err := sh.link.Lookup(name)
	if _, unknown := errors.AsType[*client.NoCommandError](err); unknown {
		switch strings.ToLower(name) {
		case "help", "?":
			return sh.help(args), false
		case "exit", "quit":
			return nil, true
		}
		// It may be on its way, behind the end of a login.
		if err = sh.link.Settle(ctx); err == nil {
			info, err = sh.link.Lookup(name)
		}
	}
	if err != nil {
		return clientError(ctx, sh.advise(err)), false
	}
	if err := refuseTransfer(info); err != nil {
		return err, false
	}
	// A person sees events as they come, above the prompt of a call too, whose
	// answer may take long. A script has them in their places.
	var shown listing
	request := client.Request{Command: name, Payload: []byte(args), Events: !sh.person}
	var peer wire.SessionID
	if sh.person && namesPeer(info) {
		if peer, err = sh.namePeer(&request, info, args); err != nil {
			return exitError{exitUsage, err}, false
		}
	}
	result, err := sh.link.Do(ctx, request, client.Handlers{
		Frame: func(f wire.Frame) error {
			shown.add(f)
			return sh.frame(f, info.Name)
		},
		Answer:  sh.answer,
		Started: func(call *client.Call) { sh.stop.watch(call, func() { sh.link.Close() }) },
	})
	sh.stop.watch(nil, nil)
	if result.Code != 0 && (!sh.person || result.Code != wire.NoErrors) {
		sh.screen.endLine()
		if sh.person {
			sh.screen.notice(endLine(info.Name, result.Code))
		} else {
			fmt.Fprintf(sh.app.stderr, "[IDLE %d %s]\n", result.Code, result.Code)
		}
	}
	if err != nil {
		return clientError(ctx, err), false
	}
	if status := exitStatus(result.Code); status != 0 {
		return exitError{status, nil}, false
	}
	if sh.person {
		if showsChannels(info.Name) {
			sh.news.Learn(shown.String())
		}
		if peer != (wire.SessionID{}) && (makesRequest(info.Name) || needsLink(info.Name)) {
			sh.news.Linked(peer, !strings.EqualFold(info.Name, "p2p_close"))
		}
		sh.learn(ctx, info.Name)
	}
	return nil, false
}

// offered reports whether the host offers a command.
func (sh *shell) offered(command string) bool {
	_, err := sh.link.Lookup(command)
	return err == nil
}

// advise adds to an error what a person can do about it: a command that is not
// offered may be there for others.
func (sh *shell) advise(err error) error {
	unknown, ok := errors.AsType[*client.NoCommandError](err)
	switch {
	case !ok || !sh.person || len(unknown.Nearest) > 0:
		return err
	case !sh.offered("logout"): // which is for everybody who is logged in
		return fmt.Errorf("%w; you are not logged in, auth -user NAME does that", err)
	}
	return fmt.Errorf("%w; help lists those that you may run", err)
}

// endLine tells a person that a call has failed, and where to look.
func endLine(command string, code wire.ReturnCode) string {
	line := fmt.Sprintf("* %s ended: %s", command, code)
	if code == wire.InvalidParams {
		line += "; help " + command + " explains it"
	}
	return line
}

// namesPeer reports whether the first frame of a command begins with the id of
// a session, for which a person types a name.
func namesPeer(info wire.CommandInfo) bool { return takesSession(info) || sendsToPeer(info) }

func takesSession(info wire.CommandInfo) bool {
	return strings.HasPrefix(strings.ToLower(info.IO), "[session_id]")
}

func sendsToPeer(info wire.CommandInfo) bool { return strings.EqualFold(info.Name, "to_peer") }

func makesRequest(command string) bool { return strings.EqualFold(command, "p2p_request") }

// needsLink reports whether a command is for a peer that there is a link to, or
// a request.
func needsLink(command string) bool {
	switch strings.ToLower(command) {
	case "p2p_open", "p2p_close", "to_peer":
		return true
	}
	return false
}

// namePeer makes the first frame of what a person has typed: who is meant, and
// for to_peer the text behind that.
func (sh *shell) namePeer(request *client.Request, info wire.CommandInfo, args string) (wire.SessionID, error) {
	name, text := cutWord(args)
	switch {
	case name == "":
		return wire.SessionID{}, fmt.Errorf("whom? Type %s", peerUsage(info))
	case text != "" && takesSession(info):
		return wire.SessionID{}, fmt.Errorf("%s takes one peer; type %s", info.Name, peerUsage(info))
	}
	id, err := sh.news.Peer(name, needsLink(info.Name))
	if err != nil {
		return id, err
	}
	if takesSession(info) {
		request.Type = wire.SesID
	}
	request.Payload = append(id[:], text...)
	return id, nil
}

// peerUsage is how a person types a command for a peer.
func peerUsage(info wire.CommandInfo) string {
	usage := info.Name + " NAME"
	if sendsToPeer(info) {
		usage += " TEXT"
	}
	return usage + ", with the user name or the session id of somebody who is here"
}

// learn asks the host for the names behind the ids of events that are to come,
// and for what the person would not notice otherwise, behind a command that was
// successful. A command that is not offered, or that is refused, teaches nothing.
func (sh *shell) learn(ctx context.Context, behind string) {
	switch strings.ToLower(behind) {
	case "auth":
		if sh.link.Settle(ctx) == nil { // what the login brings is there
			sh.learnChannels(ctx)
		}
	case "logout":
		sh.screen.notice("You are logged out.")
	case "open_sub_ch":
		_, listening, _ := tui.Opened(sh.quietly(ctx, "ls_open_chs"))
		sh.screen.line(listening)
		sh.quietly(ctx, "ping_peers") // the answers are events
	case "cast": // the host says nothing of a cast that nobody gets
		if writable, _, known := tui.Opened(sh.quietly(ctx, "ls_open_chs")); known && writable == 0 {
			sh.screen.notice("* nobody gets that: you have no sub-channel open in which you may cast; open_sub_ch opens one")
		}
	}
}

// learnChannels asks for the channels of who has just logged in, and tells of
// the invites that wait among them.
func (sh *shell) learnChannels(ctx context.Context) {
	sh.screen.line(sh.news.Invites(sh.quietly(ctx, "ls_chs", "-all")))
}

// quietly runs a command, shows nothing of it and returns its text.
func (sh *shell) quietly(ctx context.Context, name string, args ...string) string {
	var shown listing
	// If the connection has been lost, the next call says so.
	_, _ = sh.link.Run(ctx, name, args, client.Handlers{
		Frame:   func(f wire.Frame) error { shown.add(f); return nil },
		Started: func(call *client.Call) { sh.stop.watch(call, func() { sh.link.Close() }) },
	})
	sh.stop.watch(nil, nil)
	sh.news.Learn(shown.String())
	return shown.String()
}

// showsChannels reports whether tui.News can learn names from the output of a
// command.
func showsChannels(command string) bool {
	switch strings.ToLower(command) {
	case "ls_chs", "find_ch", "ls_open_chs":
		return true
	}
	return false
}

// listing collects what a call prints, as far as it is of use.
type listing struct{ strings.Builder }

// maxListing is more than the channels of a user fill (protocol 8).
const maxListing = 64 << 10

func (l *listing) add(f wire.Frame) {
	if f.Type == wire.Text && !f.Cmd.IsAsync() && l.Len()+len(f.Payload) <= maxListing {
		l.Write(f.Payload)
	}
}

// frame shows a frame of the running call, or, to a script, an async one.
func (sh *shell) frame(f wire.Frame, command string) error {
	if !sh.person {
		return (&output{app: sh.app}).frame(f, command)
	}
	switch {
	case f.Type == wire.PromptText || f.Type == wire.PrivText: // shown when it is answered
	case client.IsText(f.Type):
		sh.screen.write(tui.Printable(string(f.Payload)))
	case f.Type == wire.Prog || f.Type == wire.ProgLast:
		if len(f.Payload) == 1 {
			sh.screen.progress(int(f.Payload[0]), f.Type == wire.ProgLast)
		}
	default:
		sh.screen.line(tui.Line(f))
	}
	return nil
}

// event shows async frames: to a person all of them, to a script those that
// arrive between calls.
func (sh *shell) event(e client.Event) {
	if sh.person {
		sh.screen.line(sh.news.Lines(e))
		return
	}
	if e.InCall {
		return // the call shows it, in its place
	}
	f := wire.Frame{Type: e.Type, Cmd: wire.CmdID(e.ID), Payload: e.Payload}
	// There is nobody to tell that standard error is gone.
	_ = (&output{app: sh.app}).frame(f, "")
}

func (sh *shell) answer(ctx context.Context, q client.Question) (string, error) {
	sh.screen.endLine()
	if sh.person {
		return noMore(sh.ask(ctx, q))
	}
	answer, err := sh.link.answer(ctx, q, sh.input, &output{app: sh.app})
	if !strings.HasSuffix(q.Text, "\n") {
		fmt.Fprintln(sh.app.stderr) // nobody's Return ends the line
	}
	return answer, err
}

// ask shows a question of a call to the person, and it again below whatever is
// shown meanwhile.
func (sh *shell) ask(ctx context.Context, q client.Question) (answer string, err error) {
	text := promptText(q)
	last := strings.LastIndexByte(text, '\n') + 1
	sh.screen.write(text[:last])
	sh.screen.prompt(text[last:])
	if q.Hidden {
		answer, err = sh.input.Hidden(ctx)
	} else {
		answer, err = sh.input.Line(ctx)
	}
	sh.screen.prompted(answer, err == nil && !q.Hidden)
	if q.Hidden || err != nil {
		sh.screen.notice("") // the Return that was typed is not shown, or there was none
	}
	return answer, err
}

// help lists the commands, or explains one.
func (sh *shell) help(name string) error {
	name, _ = cutWord(name)
	if name != "" {
		info, err := sh.link.Lookup(name)
		if err != nil {
			return exitError{exitNoCommand, sh.advise(err)}
		}
		for _, text := range []string{info.Name + " - " + info.Short, info.IO} {
			if text = strings.TrimSpace(text); text != "" {
				sh.screen.line(tui.Printable(text))
			}
		}
		sh.screen.line(tui.Arguments(info))
		if text := strings.TrimSpace(info.Long); text != "" {
			sh.screen.line(tui.Printable(text))
		}
		if sh.person && namesPeer(info) {
			sh.screen.line("Here: " + tui.Printable(peerUsage(info)) + ".")
		}
		return nil
	}
	var b strings.Builder
	table := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	for _, info := range sh.link.Commands() {
		fmt.Fprintf(table, "%s\t%s\n", tui.Printable(info.Name), tui.Printable(info.Short))
	}
	table.Flush() // into memory
	sh.screen.write(b.String())
	sh.screen.line("help COMMAND explains one.")
	return nil
}

// cutWord splits the first word off a typed line; the rest is the argument
// text, sent as it is.
func cutWord(text string) (word, rest string) {
	text = strings.TrimSpace(text)
	i := strings.IndexAny(text, " \t")
	if i < 0 {
		return text, ""
	}
	return text[:i], strings.TrimLeft(text[i:], " \t")
}

// screen is the output that calls, events and the prompt share.
type screen struct {
	out io.Writer

	mu       sync.Mutex
	asking   string // the prompt that stands on the last line
	midLine  bool   // the last line has no end yet
	inBar    bool   // the last line is a progress bar
	promptOn bool
	typed    func(columns int) string // what has been typed behind the prompt; nil: the terminal shows that
	columns  func() int               // of the terminal
}

// Errors of writing are ignored below: without its output an interactive
// client has nobody to tell.

// edit makes the screen show what is typed behind a prompt.
func (s *screen) edit(typed func(columns int) string, columns func() int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.typed, s.columns = typed, columns
}

// putLocked writes text. A terminal that hands over each key does not go back
// to the first column by itself.
func (s *screen) putLocked(text string) {
	if s.typed != nil {
		text = strings.ReplaceAll(text, "\n", "\r\n")
	}
	io.WriteString(s.out, text)
}

// promptLocked returns the prompt with what has been typed behind it.
func (s *screen) promptLocked() string {
	if s.typed == nil {
		return s.asking
	}
	columns := max(s.columns(), 1)
	return s.asking + s.typed(max(columns-tui.Width(s.asking)%columns, 2))
}

// write shows text as it is.
func (s *screen) write(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writeLocked(text)
}

func (s *screen) writeLocked(text string) {
	if text == "" {
		return
	}
	if s.inBar {
		s.putLocked("\n")
		s.inBar = false
	}
	s.putLocked(text)
	s.midLine = !strings.HasSuffix(text, "\n")
}

// line shows text on lines of its own, above the prompt if that waits.
func (s *screen) line(text string) {
	if text == "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.promptOn {
		s.putLocked("\r\x1b[K") // the line is shown again below
	} else if s.midLine {
		s.putLocked("\n")
	}
	s.midLine = false
	s.writeLocked(strings.TrimRight(text, "\r\n") + "\n")
	if s.promptOn {
		s.putLocked(s.promptLocked())
	}
}

// redraw shows the prompt again with what has been typed.
func (s *screen) redraw() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.promptOn {
		s.putLocked("\r\x1b[K" + s.promptLocked())
	}
}

// notice shows a line of the client itself; it may be empty.
func (s *screen) notice(text string) { s.write(text + "\n") }

// endLine begins a new line if the last one has no end.
func (s *screen) endLine() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.midLine || s.inBar {
		s.putLocked("\n")
	}
	s.midLine, s.inBar = false, false
}

// prompt shows a prompt until prompted is called.
func (s *screen) prompt(text string) {
	if text == "" {
		return
	}
	s.endLine()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asking, s.promptOn = text, true
	s.putLocked(text)
}

// again shows the prompt on a new line, below a hint. It reports false when
// there is none.
func (s *screen) again(hint string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.promptOn {
		s.putLocked("\n" + hint + "\n" + s.asking)
	}
	return s.promptOn
}

// prompted takes the prompt for answered. shown says that the answer, which a
// person has typed, is to be seen; where the terminal has not done that it is
// shown as a whole.
func (s *screen) prompted(answer string, shown bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.promptOn && shown && s.typed != nil {
		s.putLocked("\r\x1b[K" + s.asking + tui.Printable(answer) + "\n")
	}
	s.promptOn = false
}

// progress draws a bar on a line of its own.
func (s *screen) progress(done int, last bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.midLine {
		s.putLocked("\n")
		s.midLine = false
	}
	done = min(done, 100)
	filled := done * barWidth / 100
	s.putLocked(fmt.Sprintf("\r[%s%s] %3d%%", strings.Repeat("#", filled), strings.Repeat(".", barWidth-filled), done))
	s.inBar = true
	if last {
		s.putLocked("\n")
		s.inBar = false
	}
}

package host_test

import (
	"context"
	"testing"

	"mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/internal/builtin"
	"mrci.dev/mrci/internal/host/hosttest"
	"mrci.dev/mrci/internal/registry"
	"mrci.dev/mrci/internal/store"
	"mrci.dev/mrci/wire"
)

// offer says to whom a command is offered (commands 1.1 and 10).
type offer struct {
	nobody   bool // sessions that are not logged in
	everyone bool // whoever is logged in
	ranked   bool // by rank: rank 1, and those at least as high as a rank that was assigned
	// flag is the setting that makes a ranked command public too.
	flag string
	// needs is the setting without which nobody is offered the command.
	needs string
	// any is set for a command that takes a frame of any type, empty ones too.
	any bool
}

// matrix is the table of commands 10. A new command needs a line here.
var matrix = map[string]offer{
	"auth":      {nobody: true, everyone: true},
	"my_info":   {nobody: true, everyone: true},
	"ls_cmds":   {nobody: true, everyone: true},
	"cmd_info":  {nobody: true, everyone: true},
	"logout":    {everyone: true},
	"set_pw":    {everyone: true},
	"add_acct":  {ranked: true, flag: "enable_public_reg"},
	"ls_users":  {ranked: true},
	"host_info": {ranked: true},

	"set_user_name":         {everyone: true},
	"set_disp_name":         {everyone: true},
	"set_email":             {everyone: true},
	"is_email_verified":     {everyone: true},
	"verify_email":          {everyone: true, needs: "enable_email_verify"},
	"request_pw_reset":      {ranked: true, flag: "enable_pw_reset"},
	"recover_acct":          {ranked: true, flag: "enable_pw_reset"},
	"rm_acct":               {ranked: true},
	"lock_acct":             {ranked: true},
	"set_user_rank":         {ranked: true},
	"force_set_email":       {ranked: true},
	"request_new_pw":        {ranked: true},
	"request_new_user_name": {ranked: true},
	"add_ranked_cmd":        {ranked: true},
	"rm_ranked_cmd":         {ranked: true},
	"ls_ranked_cmds":        {ranked: true},
	"ls_act_log":            {ranked: true},
	"ls_auth_log":           {ranked: true},
	"ls_audit":              {ranked: true},

	"add_ch":            {ranked: true},
	"rm_ch":             {ranked: true},
	"rename_ch":         {ranked: true},
	"find_ch":           {ranked: true},
	"ls_chs":            {ranked: true},
	"add_sub_ch":        {ranked: true},
	"rm_sub_ch":         {ranked: true},
	"rename_sub_ch":     {ranked: true},
	"ls_sub_chs":        {ranked: true},
	"set_sub_ch_level":  {ranked: true},
	"set_active_flag":   {ranked: true},
	"add_rdonly_flag":   {ranked: true},
	"rm_rdonly_flag":    {ranked: true},
	"ls_rdonly_flags":   {ranked: true},
	"invite_to_ch":      {ranked: true},
	"accept_ch":         {ranked: true},
	"decline_ch":        {ranked: true},
	"remove_ch_member":  {ranked: true},
	"set_member_level":  {ranked: true},
	"ls_ch_members":     {ranked: true},
	"ch_owner_override": {ranked: true},
	"open_sub_ch":       {ranked: true},
	"close_sub_ch":      {ranked: true},
	"ls_open_chs":       {ranked: true},
	"cast":              {ranked: true, any: true},
	"ping_peers":        {ranked: true},
	"p2p_request":       {ranked: true},
	"p2p_open":          {ranked: true},
	"p2p_close":         {ranked: true},
	"ls_p2p":            {ranked: true},
	"to_peer":           {ranked: true},
}

// assignedRank is the rank that the test assigns to every command. Those that
// are not ranked must not care.
const assignedRank wire.Rank = 5

// caller is who tries. want tells whether a command is to be offered to it.
type caller struct {
	name  string
	enter func(t *testing.T, h *hosttest.Host, c *hosttest.Client)
	want  func(o offer) bool
}

func as(user string) func(*testing.T, *hosttest.Host, *hosttest.Client) {
	return func(_ *testing.T, _ *hosttest.Host, c *hosttest.Client) { c.Login(user) }
}

// TestAccessMatrix tries every command, by its real id, in every session that
// may not or may run it (DESIGN D9).
func TestAccessMatrix(t *testing.T) {
	commands := builtin.Commands(builtin.Config{})
	known := make(map[string]bool)
	for _, b := range commands {
		known[b.Command.Name] = true
		if _, ok := matrix[b.Command.Name]; !ok {
			t.Errorf("%s has no row: say in the matrix who may run it", b.Command.Name)
		}
	}
	for name := range matrix {
		if !known[name] {
			t.Errorf("%s has a row and is no command", name)
		}
	}
	nobody := func(flag string) func(offer) bool {
		return func(o offer) bool { return o.nobody || flag != "" && o.flag == flag }
	}
	exempt := func(o offer) bool { return o.everyone && o.needs == "" }
	byRank := func(o offer) bool { return exempt(o) || o.ranked }
	callers := []caller{
		{"nobody", func(*testing.T, *hosttest.Host, *hosttest.Client) {}, nobody("")},
		{"rank too low", as("low"), exempt},
		{"rank as assigned", as("five"), byRank},
		{"higher rank", as("three"), byRank},
		{"rank 1", as("first"), byRank},
		{"after logout", func(_ *testing.T, _ *hosttest.Host, c *hosttest.Client) {
			c.Login("first")
			c.Call("logout", "")
			c.Call("my_info", "")
		}, nobody("")},
		{"rank 1, then a low one", func(_ *testing.T, _ *hosttest.Host, c *hosttest.Client) {
			c.Login("first")
			c.Login("low")
		}, exempt},
		{"locked", func(t *testing.T, h *hosttest.Host, c *hosttest.Client) {
			tryLogin(t, c, "locked")
		}, nobody("")},
		{"password change demanded", func(t *testing.T, h *hosttest.Host, c *hosttest.Client) {
			tryLogin(t, c, "demanded")
		}, nobody("")},
	}
	t.Run("assigned", func(t *testing.T) {
		h := startWithRanks(t, commands)
		for _, who := range callers {
			t.Run(who.name, func(t *testing.T) { h.try(t, who) })
		}
	})
	t.Run("not assigned", func(t *testing.T) {
		h := matrixHost{hosttest.Start(t, withoutFlags)}
		h.users()
		for _, who := range []caller{{"rank 2", as("two"), exempt}, {"rank 5", as("five"), exempt}, {"rank 1", as("first"), byRank}} {
			t.Run(who.name, func(t *testing.T) { h.try(t, who) })
		}
	})
	for _, flag := range []string{"enable_public_reg", "enable_pw_reset", "enable_email_verify"} {
		t.Run(flag, func(t *testing.T) {
			h := matrixHost{hosttest.Start(t, withoutFlags, hosttest.Set(flag+"=true"))}
			h.users()
			h.try(t, caller{"nobody", func(*testing.T, *hosttest.Host, *hosttest.Client) {}, nobody(flag)})
			h.try(t, caller{"rank 2", as("two"), func(o offer) bool { return exempt(o) || o.needs == flag }})
		})
	}
}

// withoutFlags turns off the settings that offer commands.
var withoutFlags = hosttest.Set("enable_public_reg=false", "enable_pw_reset=false", "enable_email_verify=false")

type matrixHost struct{ *hosttest.Host }

func startWithRanks(t *testing.T, commands []registry.Builtin) matrixHost {
	t.Helper()
	dir := t.TempDir()
	first := hosttest.Start(t, hosttest.Dir(dir))
	first.Stop()
	s, err := store.Open(context.Background(), store.Config{Path: first.Conf.DBHostName})
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range commands {
		r := store.Rank{Module: registry.BuiltinModule, Command: b.Command.Name, Rank: assignedRank}
		if err := s.AddRank(context.Background(), r); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	h := matrixHost{hosttest.Start(t, hosttest.Dir(dir), withoutFlags)}
	h.users()
	return h
}

func (h matrixHost) users() {
	h.User("first", 1)
	h.User("two", 2)
	h.User("three", 3)
	h.User("five", assignedRank)
	h.User("low", assignedRank+1)
	h.Change(h.User("locked", 1).ID, func(r *account.Record) error { r.Locked = true; return nil })
	h.Change(h.User("demanded", 1).ID, func(r *account.Record) error { r.NewPasswordReq = true; return nil })
}

// tryLogin gives the password to an account that it does not open.
func tryLogin(t *testing.T, c *hosttest.Client, user string) {
	t.Helper()
	id := c.ID("auth")
	c.Send(wire.Text, id, 0, "-user "+user)
	c.UntilType(wire.PrivText)
	c.Send(wire.Text, id, 0, hosttest.Password)
	c.UntilType(wire.PrivText)
}

// try runs every command as one caller. The session has been told of those
// that it may run, and of no others; the others are refused like ids that do
// not exist.
func (h matrixHost) try(t *testing.T, who caller) {
	ids := make(map[string]wire.CmdID)
	for i, b := range builtin.Commands(builtin.Config{}) {
		ids[b.Command.Name] = wire.FirstCmdID + wire.CmdID(i)
	}
	for name, row := range matrix {
		c := h.Connect()
		who.enter(t, h.Host, c)
		id := ids[name]
		want := who.want(row)
		info, listed := c.Commands[name]
		if listed != want {
			t.Errorf("%s is listed: %v, want %v", name, listed, want)
		}
		if listed && info.ID != id {
			t.Fatalf("%s has the id %d, want %d", name, info.ID, id)
		}
		// A type that no command takes: what may run says so itself.
		const branch = 12
		c.Send(wire.Bytes, id, branch, "")
		frames := c.UntilIdle(id, branch)
		said := hosttest.Texts(wire.Err, frames)
		answer := "ERR, IDLE 3"
		if want && row.any {
			answer = "IDLE 1"
		}
		if refused := said == notOffered(id); refused == want || hosttest.Kinds(frames) != answer {
			t.Errorf("%s was answered with %s %q, want it to run: %v", name, hosttest.Kinds(frames), said, want)
		}
		c.Conn.Close()
	}
}

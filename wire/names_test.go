package wire_test

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"mrci.dev/mrci/wire"
)

// The tables of the protocol page: names in order of their ids, "-" where an
// id is not assigned.
const (
	typeTable = `- GEN_FILE TEXT ERR PRIV_TEXT IDLE HOST_CERT FILE_INFO PEER_INFO MY_INFO PEER_STAT
		P2P_REQUEST P2P_CLOSE P2P_OPEN BYTES SESSION_ID NEW_CMD CMD_ID BIG_TEXT TERM_CMD HOST_VER
		PING_PEERS CH_MEMBER_INFO CH_ID KILL_CMD YIELD_CMD RESUME_CMD PROMPT_TEXT PROG PROG_LAST
		ASYNC_PAYLOAD`
	asyncTable = `- RDY SYS_MSG - CAST - LOGOUT USER_DELETED DISP_RENAMED USER_RANK_CHANGED
		CMD_RANKS_CHANGED - ENABLE_MOD DISABLE_MOD END_SESSION USER_LOGIN TO_PEER LIMITED_CAST
		RW_MY_INFO P2P CLOSE_P2P NEW_CH_MEMBER DEL_CH RENAME_CH CH_ACT_FLAG NEW_SUB_CH RM_SUB_CH
		RENAME_SUB_CH INVITED_TO_CH RM_CH_MEMBER INVITE_ACCEPTED MEM_LEVEL_CHANGED SUB_CH_LEVEL_CHG
		ADD_RDONLY RM_RDONLY ADD_CMD RM_CMD USER_RENAMED PING_PEERS OPEN_SUBCH CLOSE_SUBCH -
		KEEP_ALIVE SET_DIR DEBUG_TEXT HOOK_INPUT UNHOOK`
	codeTable = `- NO_ERRORS ABORTED INVALID_PARAMS CRASH FAILED_TO_START EXECUTION_FAIL CUSTOM`
)

// nameIn returns the name that a table gives the id, or its number.
func nameIn(table string, id int) (name string, known bool) {
	names := strings.Fields(table)
	if id < len(names) && names[id] != "-" {
		return names[id], true
	}
	return strconv.Itoa(id), false
}

func TestTypeNames(t *testing.T) {
	for id := range 256 {
		typ := wire.TypeID(id)
		want, known := nameIn(typeTable, id)
		if typ.String() != want || typ.Known() != known {
			t.Errorf("type %d is %s, known %v; want %s, %v", id, typ, typ.Known(), want, known)
		}
		if got, ok := wire.TypeByName(want); known && (got != typ || !ok) {
			t.Errorf("TypeByName(%s) = %d, %v; want %d", want, got, ok, id)
		}
	}
	for _, name := range []string{"", "text", "0", "-"} {
		if got, ok := wire.TypeByName(name); ok {
			t.Errorf("TypeByName(%q) = %v, want none", name, got)
		}
	}
}

func TestAsyncNames(t *testing.T) {
	for id := range 1000 {
		want, known := nameIn(asyncTable, id)
		if id == 100 {
			want, known = "EXTENSIONS", true
		}
		if got := wire.AsyncID(id); got.String() != want || got.Known() != known {
			t.Errorf("async %d is %s, known %v; want %s, %v", id, got, got.Known(), want, known)
		}
	}
}

func TestCodeNames(t *testing.T) {
	for id := range 1000 {
		want, _ := nameIn(codeTable, id)
		if got := wire.ReturnCode(id).String(); got != want {
			t.Errorf("return code %d is %s, want %s", id, got, want)
		}
	}
}

// TestWhoMaySay holds HostOnly, Relayable and IsControl against the list of
// modules 1.2.
func TestWhoMaySay(t *testing.T) {
	const (
		hostOnly = `NEW_CMD MY_INFO PEER_INFO PEER_STAT PING_PEERS P2P_REQUEST P2P_CLOSE P2P_OPEN
			HOST_VER HOST_CERT TERM_CMD KILL_CMD YIELD_CMD RESUME_CMD ASYNC_PAYLOAD`
		control = `TERM_CMD KILL_CMD YIELD_CMD RESUME_CMD`
	)
	in := func(list, name string) bool {
		for _, word := range strings.Fields(list) {
			if word == name {
				return true
			}
		}
		return false
	}
	for id := range 256 {
		typ := wire.TypeID(id)
		host := !typ.Known() || in(hostOnly, typ.String())
		if typ.HostOnly() != host {
			t.Errorf("%s: HostOnly %v, want %v", typ, typ.HostOnly(), host)
		}
		if relay := !host && typ != wire.Idle; typ.Relayable() != relay {
			t.Errorf("%s: Relayable %v, want %v", typ, typ.Relayable(), relay)
		}
		if want := in(control, typ.String()); typ.IsControl() != want {
			t.Errorf("%s: IsControl %v, want %v", typ, typ.IsControl(), want)
		}
	}
}

func TestRanks(t *testing.T) {
	const none = wire.NoRank
	tests := []struct {
		a, b              wire.Rank
		outranks, atLeast bool
	}{
		{1, 1, false, true},
		{1, 2, true, true},
		{2, 1, false, false},
		{1, 1<<32 - 1, true, true},
		{1<<32 - 1, 1, false, false},
		{none, 1, false, false},
		{none, 1<<32 - 1, false, false},
		{1<<32 - 1, none, true, false},
		{1, none, true, false}, // a needed rank that nobody set lets nobody through
		{none, none, false, false},
	}
	for _, test := range tests {
		if got := test.a.Outranks(test.b); got != test.outranks {
			t.Errorf("rank %d outranks %d: %v, want %v", test.a, test.b, got, test.outranks)
		}
		if got := test.a.AtLeast(test.b); got != test.atLeast {
			t.Errorf("rank %d is at least %d: %v, want %v", test.a, test.b, got, test.atLeast)
		}
	}
}

func TestLevels(t *testing.T) {
	names := []string{"level(0)", "owner", "admin", "officer", "regular", "public", "level(6)"}
	for a, name := range names {
		if got := wire.Level(a).String(); got != name {
			t.Errorf("level %d is %s, want %s", a, got, name)
		}
		for b := range names {
			atLeast, outranks := a >= 1 && a <= b, a >= 1 && a < b
			if got := wire.Level(a).AtLeast(wire.Level(b)); got != atLeast {
				t.Errorf("%s is at least %s: %v, want %v", name, names[b], got, atLeast)
			}
			if got := wire.Level(a).Outranks(wire.Level(b)); got != outranks {
				t.Errorf("%s outranks %s: %v, want %v", name, names[b], got, outranks)
			}
		}
	}
}

func TestIDs(t *testing.T) {
	commands := map[wire.CmdID]struct {
		async bool
		name  string
	}{
		0: {false, "0"}, 1: {true, "RDY"}, 19: {true, "P2P"}, 255: {true, "255"}, 256: {false, "256"}, 65535: {false, "65535"},
	}
	for id, want := range commands {
		if id.IsAsync() != want.async || id.String() != want.name {
			t.Errorf("command %d: async %v, named %s; want %v, %s", uint16(id), id.IsAsync(), id, want.async, want.name)
		}
	}
	session, user := wire.SessionID{0xab, 27: 1}, wire.UserID{31: 0xcd}
	sessionHex, userHex := "ab"+strings.Repeat("00", 26)+"01", strings.Repeat("00", 31)+"cd"
	if session.String() != sessionHex || user.String() != userHex {
		t.Errorf("ids are %s and %s, want %s and %s", session, user, sessionHex, userHex)
	}
	inJSON, err := json.Marshal([]any{session, user})
	if want := fmt.Sprintf("[%q,%q]", sessionHex, userHex); err != nil || string(inJSON) != want {
		t.Errorf("in JSON %s, %v; want %s", inJSON, err, want)
	}
	if user.IsZero() || !(wire.UserID{}).IsZero() {
		t.Error("IsZero is wrong")
	}
}

func TestExtensionsHas(t *testing.T) {
	tests := []struct {
		set, want wire.Extensions
		has       bool
	}{
		{0, 0, true}, {0, wire.ExtSchema, false}, {wire.ExtSchema, wire.ExtSchema, true},
		{wire.ExtSchema, wire.ExtSchema | 2, false}, {wire.ExtSchema | 2, wire.ExtSchema, true},
	}
	for _, test := range tests {
		if got := test.set.Has(test.want); got != test.has {
			t.Errorf("%b has %b: %v, want %v", test.set, test.want, got, test.has)
		}
	}
}

// TestRelayable names what may be carried; of all 256 types nothing else may.
func TestRelayable(t *testing.T) {
	allowed := map[wire.TypeID]bool{
		1:  true, // GEN_FILE
		2:  true, // TEXT
		3:  true, // ERR
		4:  true, // PRIV_TEXT
		7:  true, // FILE_INFO
		14: true, // BYTES
		15: true, // SESSION_ID
		17: true, // CMD_ID
		18: true, // BIG_TEXT
		22: true, // CH_MEMBER_INFO
		23: true, // CH_ID
		27: true, // PROMPT_TEXT
		28: true, // PROG
		29: true, // PROG_LAST
	}
	for id := range 256 {
		if typ := wire.TypeID(id); typ.Relayable() != allowed[typ] {
			t.Errorf("%s (%d): got %v", typ, id, typ.Relayable())
		}
	}
}

package wire

import "strconv"

// TypeID tells what a frame carries (protocol 3).
type TypeID uint8

// The type ids of revision 2 (protocol 3). Ids from 64 on belong to the
// module interface (modules 2).
const (
	GenFile      TypeID = 1  // file transfer, both directions
	Text         TypeID = 2  // UTF-8 text
	Err          TypeID = 3  // UTF-8 text of a refusal or failure
	PrivText     TypeID = 4  // a prompt whose answer is not shown
	Idle         TypeID = 5  // the end of a call: ReturnCode, then optional data
	HostCert     TypeID = 6  // legacy only
	FileInfo     TypeID = 7  // a FileRecord
	PeerInfo     TypeID = 8  // a Peer, 140 bytes
	MyInfo       TypeID = 9  // an Account, 209 bytes
	PeerStat     TypeID = 10 // a PeerStatus, 83 bytes
	P2PRequest   TypeID = 11 // a Peer
	P2PClose     TypeID = 12 // a SessionID
	P2POpen      TypeID = 13 // a SessionID
	Bytes        TypeID = 14 // anything
	SesID        TypeID = 15 // a SessionID
	NewCmd       TypeID = 16 // a CommandInfo
	CommandID    TypeID = 17 // a CmdID
	BigText      TypeID = 18 // UTF-8 text meant to be word wrapped
	TermCmd      TypeID = 19 // stop what the instance does
	HostVer      TypeID = 20 // a Version, to modules
	PingPeers    TypeID = 21 // a Peer, between sessions
	ChMemberInfo TypeID = 22 // a Member
	ChID         TypeID = 23 // a ChannelID
	KillCmd      TypeID = 24 // as TermCmd, and the process ends
	YieldCmd     TypeID = 25 // pause the instance
	ResumeCmd    TypeID = 26 // go on
	PromptText   TypeID = 27 // a prompt whose answer may be shown
	Prog         TypeID = 28 // u8, percent done
	ProgLast     TypeID = 29 // u8, the last of a row of Prog
	AsyncPayload TypeID = 30 // u16 async id, payload; from modules
)

var typeNames = [...]string{
	GenFile: "GEN_FILE", Text: "TEXT", Err: "ERR", PrivText: "PRIV_TEXT", Idle: "IDLE",
	HostCert: "HOST_CERT", FileInfo: "FILE_INFO", PeerInfo: "PEER_INFO", MyInfo: "MY_INFO",
	PeerStat: "PEER_STAT", P2PRequest: "P2P_REQUEST", P2PClose: "P2P_CLOSE", P2POpen: "P2P_OPEN",
	Bytes: "BYTES", SesID: "SESSION_ID", NewCmd: "NEW_CMD", CommandID: "CMD_ID",
	BigText: "BIG_TEXT", TermCmd: "TERM_CMD", HostVer: "HOST_VER", PingPeers: "PING_PEERS",
	ChMemberInfo: "CH_MEMBER_INFO", ChID: "CH_ID", KillCmd: "KILL_CMD", YieldCmd: "YIELD_CMD",
	ResumeCmd: "RESUME_CMD", PromptText: "PROMPT_TEXT", Prog: "PROG", ProgLast: "PROG_LAST",
	AsyncPayload: "ASYNC_PAYLOAD",
}

// String returns the protocol's name of the type, or its number when it is
// unknown.
func (t TypeID) String() string {
	if t.Known() {
		return typeNames[t]
	}
	return strconv.Itoa(int(t))
}

// Known reports whether revision 2 defines the type.
func (t TypeID) Known() bool { return int(t) < len(typeNames) && typeNames[t] != "" }

// TypeByName returns the type with the protocol's name, such as "PRIV_TEXT",
// and whether there is one.
func TypeByName(name string) (TypeID, bool) {
	for id, n := range typeNames {
		if n == name && n != "" {
			return TypeID(id), true
		}
	}
	return 0, false
}

// IsControl reports whether the type controls an instance instead of being
// its input: TERM_CMD, KILL_CMD, YIELD_CMD, RESUME_CMD (protocol 4).
func (t TypeID) IsControl() bool {
	return t == TermCmd || t == KillCmd || t == YieldCmd || t == ResumeCmd
}

// HostOnly reports whether only the host may say this type to a client: a
// command or module that sends it, casts it or hands it to a peer is refused
// (modules 1.2). Unknown types are among them; IDLE is not, since every
// command ends with one, but Relayable refuses it.
func (t TypeID) HostOnly() bool {
	switch t {
	case NewCmd, MyInfo, PeerInfo, PeerStat, PingPeers, P2PRequest, P2PClose, P2POpen,
		HostVer, HostCert, TermCmd, KillCmd, YieldCmd, ResumeCmd, AsyncPayload:
		return true
	}
	return !t.Known()
}

// Relayable reports whether the type may be carried to other clients by cast
// and to_peer (modules 1.2).
func (t TypeID) Relayable() bool { return t != Idle && !t.HostOnly() }

// ReturnCode is the result of a call, the first two bytes of IDLE (protocol 4).
type ReturnCode uint16

// The return codes (protocol 4).
const (
	NoErrors      ReturnCode = 1
	Aborted       ReturnCode = 2
	InvalidParams ReturnCode = 3
	Crash         ReturnCode = 4
	FailedToStart ReturnCode = 5
	ExecutionFail ReturnCode = 6
	Custom        ReturnCode = 7
)

var codeNames = [...]string{
	NoErrors: "NO_ERRORS", Aborted: "ABORTED", InvalidParams: "INVALID_PARAMS", Crash: "CRASH",
	FailedToStart: "FAILED_TO_START", ExecutionFail: "EXECUTION_FAIL", Custom: "CUSTOM",
}

// String returns the protocol's name of the code, or its number.
func (c ReturnCode) String() string {
	if int(c) < len(codeNames) && codeNames[c] != "" {
		return codeNames[c]
	}
	return strconv.Itoa(int(c))
}

// AsyncID names a virtual command of the host (protocol 5).
type AsyncID uint16

// The async ids of revision 2 (protocol 5).
const (
	AsyncRdy            AsyncID = 1
	AsyncSysMsg         AsyncID = 2
	AsyncCast           AsyncID = 4
	AsyncLogout         AsyncID = 6
	AsyncUserDeleted    AsyncID = 7
	AsyncDispRenamed    AsyncID = 8
	AsyncUserRankChg    AsyncID = 9
	AsyncCmdRanksChg    AsyncID = 10
	AsyncEnableMod      AsyncID = 12
	AsyncDisableMod     AsyncID = 13
	AsyncEndSession     AsyncID = 14
	AsyncUserLogin      AsyncID = 15
	AsyncToPeer         AsyncID = 16
	AsyncLimitedCast    AsyncID = 17
	AsyncRWMyInfo       AsyncID = 18
	AsyncP2P            AsyncID = 19
	AsyncCloseP2P       AsyncID = 20
	AsyncNewChMember    AsyncID = 21
	AsyncDelCh          AsyncID = 22
	AsyncRenameCh       AsyncID = 23
	AsyncChActFlag      AsyncID = 24
	AsyncNewSubCh       AsyncID = 25
	AsyncRmSubCh        AsyncID = 26
	AsyncRenameSubCh    AsyncID = 27
	AsyncInvitedToCh    AsyncID = 28
	AsyncRmChMember     AsyncID = 29
	AsyncInviteAccepted AsyncID = 30
	AsyncMemLevelChg    AsyncID = 31
	AsyncSubChLevelChg  AsyncID = 32
	AsyncAddRdOnly      AsyncID = 33
	AsyncRmRdOnly       AsyncID = 34
	AsyncAddCmd         AsyncID = 35
	AsyncRmCmd          AsyncID = 36
	AsyncUserRenamed    AsyncID = 37
	AsyncPingPeers      AsyncID = 38
	AsyncOpenSubCh      AsyncID = 39
	AsyncCloseSubCh     AsyncID = 40
	AsyncKeepAlive      AsyncID = 42
	AsyncSetDir         AsyncID = 43
	AsyncDebugText      AsyncID = 44
	AsyncHookInput      AsyncID = 45
	AsyncUnhook         AsyncID = 46

	// AsyncExtensions answers a client that asked for extensions in its
	// header: BYTES with the u32 that the host grants (extensions.go).
	AsyncExtensions AsyncID = 100
)

var asyncNames = [...]string{
	AsyncRdy: "RDY", AsyncSysMsg: "SYS_MSG", AsyncCast: "CAST", AsyncLogout: "LOGOUT",
	AsyncUserDeleted: "USER_DELETED", AsyncDispRenamed: "DISP_RENAMED",
	AsyncUserRankChg: "USER_RANK_CHANGED", AsyncCmdRanksChg: "CMD_RANKS_CHANGED",
	AsyncEnableMod: "ENABLE_MOD", AsyncDisableMod: "DISABLE_MOD", AsyncEndSession: "END_SESSION",
	AsyncUserLogin: "USER_LOGIN", AsyncToPeer: "TO_PEER", AsyncLimitedCast: "LIMITED_CAST",
	AsyncRWMyInfo: "RW_MY_INFO", AsyncP2P: "P2P", AsyncCloseP2P: "CLOSE_P2P",
	AsyncNewChMember: "NEW_CH_MEMBER", AsyncDelCh: "DEL_CH", AsyncRenameCh: "RENAME_CH",
	AsyncChActFlag: "CH_ACT_FLAG", AsyncNewSubCh: "NEW_SUB_CH", AsyncRmSubCh: "RM_SUB_CH",
	AsyncRenameSubCh: "RENAME_SUB_CH", AsyncInvitedToCh: "INVITED_TO_CH",
	AsyncRmChMember: "RM_CH_MEMBER", AsyncInviteAccepted: "INVITE_ACCEPTED",
	AsyncMemLevelChg: "MEM_LEVEL_CHANGED", AsyncSubChLevelChg: "SUB_CH_LEVEL_CHG",
	AsyncAddRdOnly: "ADD_RDONLY", AsyncRmRdOnly: "RM_RDONLY", AsyncAddCmd: "ADD_CMD",
	AsyncRmCmd: "RM_CMD", AsyncUserRenamed: "USER_RENAMED", AsyncPingPeers: "PING_PEERS",
	AsyncOpenSubCh: "OPEN_SUBCH", AsyncCloseSubCh: "CLOSE_SUBCH", AsyncKeepAlive: "KEEP_ALIVE",
	AsyncSetDir: "SET_DIR", AsyncDebugText: "DEBUG_TEXT", AsyncHookInput: "HOOK_INPUT",
	AsyncUnhook: "UNHOOK", AsyncExtensions: "EXTENSIONS",
}

// Known reports whether revision 2, or an extension of this project, defines
// the async id.
func (id AsyncID) Known() bool { return int(id) < len(asyncNames) && asyncNames[id] != "" }

// String returns the protocol's name of the async id, or its number.
func (id AsyncID) String() string {
	if id.Known() {
		return asyncNames[id]
	}
	return strconv.Itoa(int(id))
}

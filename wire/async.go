package wire

import "encoding/binary"

// AppendAsync adds the payload of an ASYNC_PAYLOAD frame to dst: the id, then
// the payload of that async (protocol 3, 5). p may be nil for those without.
func AppendAsync(dst []byte, id AsyncID, p Payload) []byte {
	dst = binary.LittleEndian.AppendUint16(dst, uint16(id))
	if p == nil {
		return dst
	}
	return Append(dst, p)
}

// CutAsync splits the payload of an ASYNC_PAYLOAD frame into the id and the
// payload of that async, which aliases b.
func CutAsync(b []byte) (AsyncID, []byte, error) {
	if len(b) < 2 {
		return 0, nil, &FormatError{Layout: "ASYNC_PAYLOAD", Field: "async_id", Want: "2 bytes"}
	}
	return AsyncID(binary.LittleEndian.Uint16(b)), b[2:], nil
}

// Cast is the module payload of CAST and LIMITED_CAST (protocol 5).
type Cast struct {
	To   SubList
	Type TypeID
	Data []byte
}

func (c *Cast) layout(w *walker) {
	w.is("CAST")
	c.To.field(w, "sub_channels")
	w.u8("type", (*uint8)(&c.Type))
	w.rest("data", &c.Data)
}

// UserRef is a payload that is one user id: USER_DELETED, USER_LOGIN,
// RW_MY_INFO (protocol 5).
type UserRef struct {
	User UserID
}

func (u *UserRef) layout(w *walker) {
	w.is("user")
	w.user("user_id", &u.User)
}

// DispRenamed is DISP_RENAMED (protocol 5). Decoding accepts 64 bytes of
// UTF-16LE as the name, which older modules send.
type DispRenamed struct {
	User    UserID
	Display string // at most 24 bytes
}

func (d *DispRenamed) layout(w *walker) {
	w.is("DISP_RENAMED")
	w.user("user_id", &d.User)
	w.fixedOrUTF16("display_name", &d.Display, DisplayNameSize, 64)
}

// UserRenamed is USER_RENAMED (protocol 5). Decoding accepts 48 bytes of
// UTF-16LE as the name, which older modules send.
type UserRenamed struct {
	User UserID
	Name string // at most 24 bytes
}

func (u *UserRenamed) layout(w *walker) {
	w.is("USER_RENAMED")
	w.user("user_id", &u.User)
	w.fixedOrUTF16("user_name", &u.Name, UserNameSize, 48)
}

// RankChanged is USER_RANK_CHANGED (protocol 5).
type RankChanged struct {
	User UserID
	Rank Rank
}

func (r *RankChanged) layout(w *walker) {
	w.is("USER_RANK_CHANGED")
	w.user("user_id", &r.User)
	w.u32("host_rank", (*uint32)(&r.Rank))
}

// PathText is a payload that is one path: ENABLE_MOD, DISABLE_MOD, SET_DIR
// (protocol 5).
type PathText struct {
	Path string
}

func (p *PathText) layout(w *walker) {
	w.is("path")
	w.restText("path", &p.Path)
}

// ToPeer is TO_PEER between sessions (protocol 5).
type ToPeer struct {
	Session SessionID
	Type    TypeID
	Data    []byte
}

func (t *ToPeer) layout(w *walker) {
	w.is("TO_PEER")
	w.session("session_id", &t.Session)
	w.u8("type", (*uint8)(&t.Type))
	w.rest("data", &t.Data)
}

// P2P is the module payload of P2P (protocol 5, 7).
type P2P struct {
	Dst, Src SessionID
	Type     TypeID
	Data     []byte
}

func (p *P2P) layout(w *walker) {
	w.is("P2P")
	w.session("dst", &p.Dst)
	w.session("src", &p.Src)
	w.u8("type", (*uint8)(&p.Type))
	w.rest("data", &p.Data)
}

// PeerData is what a client gets under P2P when a linked peer sends data: the
// peer's session id in front of the data (protocol 7).
type PeerData struct {
	Src  SessionID
	Data []byte
}

func (p *PeerData) layout(w *walker) {
	w.is("P2P")
	w.session("src", &p.Src)
	w.rest("data", &p.Data)
}

// ChannelRenamed is RENAME_CH (protocol 5). Decoding accepts one or two zero
// bytes behind the name.
type ChannelRenamed struct {
	Channel ChannelID
	Name    string
}

func (c *ChannelRenamed) layout(w *walker) {
	w.is("RENAME_CH")
	w.channel("channel_id", &c.Channel)
	w.terminated("channel_name", &c.Name)
	w.extraZero()
}

// SubAdded is NEW_SUB_CH (protocol 5). Decoding accepts the byte that the
// original puts before the name, and one or two zero bytes behind it.
type SubAdded struct {
	Channel ChannelID
	Sub     SubID
	Level   Level
	Name    string
}

func (s *SubAdded) layout(w *walker) {
	w.is("NEW_SUB_CH")
	w.channel("channel_id", &s.Channel)
	w.u8("sub_id", (*uint8)(&s.Sub))
	w.u8("level", (*uint8)(&s.Level))
	// A name never begins with a control character, so this byte is the
	// original's active-update flag.
	if w.mode == decode && w.err == nil && w.left() > 1 && w.b[w.off] < ' ' {
		w.off++
	}
	before := w.off
	w.terminated("sub_channel_name", &s.Name)
	if w.mode == decode && w.err == nil && s.Name != "" && s.Name[0] < ' ' {
		w.off = before
		w.fail("sub_channel_name", "a name that does not begin with a control character")
	}
	w.extraZero()
}

// SubRenamed is RENAME_SUB_CH (protocol 5). Decoding accepts one or two zero
// bytes behind the name.
type SubRenamed struct {
	Channel ChannelID
	Sub     SubID
	Name    string
}

func (s *SubRenamed) layout(w *walker) {
	w.is("RENAME_SUB_CH")
	w.channel("channel_id", &s.Channel)
	w.u8("sub_id", (*uint8)(&s.Sub))
	w.terminated("sub_channel_name", &s.Name)
	w.extraZero()
}

// MemberRemoved is RM_CH_MEMBER (protocol 5).
type MemberRemoved struct {
	Channel ChannelID
	User    UserID
}

func (m *MemberRemoved) layout(w *walker) {
	w.is("RM_CH_MEMBER")
	w.channel("channel_id", &m.Channel)
	w.user("user_id", &m.User)
}

// MemberLevel is MEM_LEVEL_CHANGED (protocol 5).
type MemberLevel struct {
	Channel ChannelID
	User    UserID
	Level   Level
}

func (m *MemberLevel) layout(w *walker) {
	w.is("MEM_LEVEL_CHANGED")
	w.channel("channel_id", &m.Channel)
	w.user("user_id", &m.User)
	w.u8("level", (*uint8)(&m.Level))
}

// SubLevel is SUB_CH_LEVEL_CHG, ADD_RDONLY and RM_RDONLY (protocol 5).
// Decoding accepts a payload without the level, as older documents have it;
// Level is then 0.
type SubLevel struct {
	Channel ChannelID
	Sub     SubID
	Level   Level
}

func (s *SubLevel) layout(w *walker) {
	w.is("SUB_CH_LEVEL_CHG")
	w.channel("channel_id", &s.Channel)
	w.u8("sub_id", (*uint8)(&s.Sub))
	if w.mode == decode && w.err == nil && w.left() == 0 {
		s.Level = 0
		return
	}
	w.u8("level", (*uint8)(&s.Level))
}

// NewAsyncPayload returns an empty value with the layout that modules send,
// and other sessions of the host get, under the id; nil for asyncs without a
// payload, for free text (RDY, SYS_MSG, DEBUG_TEXT), and for ids that do not
// exist.
func NewAsyncPayload(id AsyncID) Payload {
	switch id {
	case AsyncCast, AsyncLimitedCast:
		return new(Cast)
	case AsyncUserDeleted, AsyncUserLogin, AsyncRWMyInfo:
		return new(UserRef)
	case AsyncDispRenamed:
		return new(DispRenamed)
	case AsyncUserRankChg:
		return new(RankChanged)
	case AsyncEnableMod, AsyncDisableMod, AsyncSetDir:
		return new(PathText)
	case AsyncToPeer:
		return new(ToPeer)
	case AsyncP2P:
		return new(P2P)
	case AsyncCloseP2P:
		return new(SessionRef)
	case AsyncNewChMember, AsyncInvitedToCh, AsyncInviteAccepted:
		return new(Member)
	case AsyncDelCh:
		return new(ChannelRef)
	case AsyncRenameCh:
		return new(ChannelRenamed)
	case AsyncChActFlag, AsyncRmSubCh, AsyncOpenSubCh, AsyncCloseSubCh:
		return new(SubRef)
	case AsyncNewSubCh:
		return new(SubAdded)
	case AsyncRenameSubCh:
		return new(SubRenamed)
	case AsyncRmChMember:
		return new(MemberRemoved)
	case AsyncMemLevelChg:
		return new(MemberLevel)
	case AsyncSubChLevelChg, AsyncAddRdOnly, AsyncRmRdOnly:
		return new(SubLevel)
	case AsyncAddCmd:
		return new(CommandInfo)
	case AsyncRmCmd:
		return new(CommandRef)
	case AsyncUserRenamed:
		return new(UserRenamed)
	case AsyncExtensions:
		return new(ExtensionsGranted)
	}
	return nil
}

// NewClientPayload returns an empty value with the layout that a client
// receives in a frame of the type under the id, which may be a command's; nil
// when the payload is text or has no layout of its own.
func NewClientPayload(id CmdID, t TypeID) Payload {
	if id.IsAsync() && t == Bytes {
		switch a := AsyncID(id); a {
		case AsyncUserDeleted, AsyncRenameCh, AsyncNewSubCh, AsyncRmSubCh, AsyncRenameSubCh,
			AsyncRmChMember, AsyncMemLevelChg, AsyncSubChLevelChg, AsyncAddRdOnly, AsyncRmRdOnly,
			AsyncExtensions:
			return NewAsyncPayload(a)
		}
	}
	if id == CmdID(AsyncP2P) && t != P2PRequest && t != P2POpen && t != P2PClose {
		return new(PeerData)
	}
	switch t {
	case FileInfo:
		return new(FileRecord)
	case PeerInfo, P2PRequest, PingPeers:
		return new(Peer)
	case MyInfo:
		return new(Account)
	case PeerStat:
		return new(PeerStatus)
	case P2PClose, P2POpen, SesID:
		return new(SessionRef)
	case NewCmd:
		return new(CommandInfo)
	case CommandID:
		return new(CommandRef)
	case HostVer:
		return new(HostVersion)
	case ChMemberInfo:
		return new(Member)
	case ChID:
		return new(ChannelRef)
	case Prog, ProgLast:
		return new(Percent)
	}
	return nil
}

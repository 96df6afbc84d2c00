package wire

import "encoding/binary"

// Sizes of payloads with a fixed layout, in bytes (protocol 3).
const (
	PeerSize       = 140
	AccountSize    = 209
	PeerStatusSize = 83
	SubListSize    = 54
	SubRefSize     = 9
	MinNewCmdSize  = 131
	MinMemberSize  = 45
)

// Sizes of text fields, in bytes of UTF-8 (protocol 3, state 2).
const (
	UserNameSize    = 24
	DisplayNameSize = 24
	EmailSize       = 64
	CommandNameSize = 64
	LibraryNameSize = 64
)

// MaxOpenSubs is how many sub-channels a session can have open (protocol 8).
const MaxOpenSubs = 6

// Peer is PEER_INFO, and the payload of P2P_REQUEST and PING_PEERS: 140 bytes
// (protocol 3).
type Peer struct {
	Session SessionID
	User    UserID // zero while the session is not logged in
	Name    string // user name, at most 24 bytes
	App     string // client application, at most 32 bytes
	Display string // display name, at most 24 bytes
}

func (p *Peer) layout(w *walker) {
	w.is("PEER_INFO")
	p.fields(w)
}

func (p *Peer) fields(w *walker) {
	w.session("session_id", &p.Session)
	w.user("user_id", &p.User)
	w.fixed("user_name", &p.Name, UserNameSize)
	w.fixed("app_name", &p.App, AppNameSize)
	w.fixed("display_name", &p.Display, DisplayNameSize)
}

// Account is MY_INFO: what a session is told about its own login, 209 bytes
// (protocol 3).
type Account struct {
	Peer
	Email         string // at most 64 bytes
	Rank          Rank
	EmailVerified bool
}

func (a *Account) layout(w *walker) {
	w.is("MY_INFO")
	a.Peer.fields(w)
	w.fixed("email", &a.Email, EmailSize)
	w.u32("host_rank", (*uint32)(&a.Rank))
	w.flag("email_confirmed", &a.EmailVerified)
}

// SubRef names a sub-channel: 9 bytes (protocol 3). The zero value is an empty
// slot of a SubList.
type SubRef struct {
	Channel ChannelID
	Sub     SubID
}

func (r *SubRef) layout(w *walker) {
	w.is("sub-channel")
	w.channel("channel_id", &r.Channel)
	w.u8("sub_id", (*uint8)(&r.Sub))
}

// SubList is the list of open sub-channels: six slots of 9 bytes (protocol 3).
// Empty slots may stand anywhere. Decoding is lenient: a slot without a channel
// is empty, whatever its sub id says.
type SubList [MaxOpenSubs]SubRef

// Open returns the slots that are not empty, in their order.
func (l *SubList) Open() []SubRef {
	open := make([]SubRef, 0, len(l))
	for _, ref := range l {
		if ref.Channel != 0 {
			open = append(open, ref)
		}
	}
	return open
}

func (l *SubList) layout(w *walker) {
	w.is("sub-channel list")
	l.field(w, "sub_channels")
}

func (l *SubList) field(w *walker, field string) {
	switch w.mode {
	case encode:
		for _, ref := range l {
			w.b = binary.LittleEndian.AppendUint64(w.b, uint64(ref.Channel))
			w.b = append(w.b, byte(ref.Sub))
		}
	case decode:
		p := w.take(field, SubListSize)
		if p == nil {
			return
		}
		*l = SubList{}
		for i := range l {
			slot := p[i*SubRefSize:]
			if id := ChannelID(binary.LittleEndian.Uint64(slot)); id != 0 {
				l[i] = SubRef{Channel: id, Sub: SubID(slot[8])}
			}
		}
	case describe:
		w.fields = append(w.fields, Field{field, *l})
	}
}

// PeerStatus is PEER_STAT: 83 bytes (protocol 3).
type PeerStatus struct {
	Session      SessionID
	Open         SubList
	Disconnected bool
}

func (p *PeerStatus) layout(w *walker) {
	w.is("PEER_STAT")
	w.session("session_id", &p.Session)
	p.Open.field(w, "sub_channels")
	w.flag("disconnected", &p.Disconnected)
}

// GenFileKind tells which direction of file transfer a command takes part in.
type GenFileKind uint8

// The directions (protocol 3, NEW_CMD).
const (
	NoGenFile GenFileKind = 0
	Upload    GenFileKind = 2
	Download  GenFileKind = 3
)

// CommandInfo is NEW_CMD: at least 131 bytes (protocol 3). Decoding is
// lenient: texts that are missing are empty, the last may lack its zero byte,
// and bytes that are not UTF-8 become U+FFFD.
type CommandInfo struct {
	ID      CmdID
	GenFile GenFileKind
	Name    string // at most 64 bytes
	Library string // at most 64 bytes
	Short   string
	IO      string
	Long    string
	// Schema is the JSON Schema of the arguments. It stands behind the long
	// text and only when ExtSchema was granted; empty means that there is none.
	Schema string
}

func (c *CommandInfo) layout(w *walker) {
	w.is("NEW_CMD")
	w.u16("command_id", (*uint16)(&c.ID))
	w.u8("genfile_type", (*uint8)(&c.GenFile))
	w.fixed("command_name", &c.Name, CommandNameSize)
	w.fixed("library", &c.Library, LibraryNameSize)
	w.lastTexts([]string{"short_text", "io_text", "long_text"}, []*string{&c.Short, &c.IO, &c.Long})
	if w.mode == decode || c.Schema != "" {
		w.lastTexts([]string{"schema"}, []*string{&c.Schema})
	}
}

// lastTexts are null terminated texts that a decoded payload may end within.
func (w *walker) lastTexts(fields []string, texts []*string) {
	for i, text := range texts {
		if w.mode != decode {
			w.terminated(fields[i], text)
			continue
		}
		if w.err != nil {
			continue
		}
		start := w.off
		for w.off < len(w.b) && w.b[w.off] != 0 {
			w.off++
		}
		*text = validText(w.b[start:w.off])
		if w.off < len(w.b) {
			w.off++
		}
	}
}

// Member is CH_MEMBER_INFO: at least 45 bytes (protocol 3).
type Member struct {
	Channel     ChannelID
	User        UserID
	Invite      bool // an invitation that is pending
	Level       Level
	Name        string // user name
	Display     string // display name
	ChannelName string
}

func (m *Member) layout(w *walker) {
	w.is("CH_MEMBER_INFO")
	w.channel("channel_id", &m.Channel)
	w.user("user_id", &m.User)
	w.flag("is_invite", &m.Invite)
	w.u8("level", (*uint8)(&m.Level))
	w.terminated("user_name", &m.Name)
	w.terminated("display_name", &m.Display)
	w.terminated("channel_name", &m.ChannelName)
}

// FileRecord is FILE_INFO (files 1.2).
type FileRecord struct {
	Flags    FileFlags
	Created  uint64 // ms since 1970 UTC; 0 when unknown
	Modified uint64 // ms since 1970 UTC
	Size     uint64 // bytes
	Name     string // without directory
	Target   string // of a symbolic link; empty if it is none
}

// FileFlags says what a FileRecord describes (files 1.2).
type FileFlags uint8

// The bits of FileFlags.
const (
	FileIsFile FileFlags = 1 << iota
	FileIsDir
	FileIsLink
	FileReadable
	FileWritable
	FileExecutable
	FileExists
)

func (f *FileRecord) layout(w *walker) {
	w.is("FILE_INFO")
	w.u8("flags", (*uint8)(&f.Flags))
	w.u64("created_ms", &f.Created)
	w.u64("modified_ms", &f.Modified)
	w.u64("size", &f.Size)
	w.terminated("name", &f.Name)
	w.terminated("link_target", &f.Target)
}

// SessionRef is a payload that is one session id: P2P_OPEN, P2P_CLOSE,
// SESSION_ID, and CLOSE_P2P of modules (protocol 3, 5).
type SessionRef struct {
	Session SessionID
}

func (r *SessionRef) layout(w *walker) {
	w.is("SESSION_ID")
	w.session("session_id", &r.Session)
}

// CommandRef is CMD_ID (protocol 3).
type CommandRef struct {
	ID CmdID
}

func (r *CommandRef) layout(w *walker) {
	w.is("CMD_ID")
	w.u16("command_id", (*uint16)(&r.ID))
}

// ChannelRef is CH_ID, and the payload of DEL_CH (protocol 3, 5).
type ChannelRef struct {
	Channel ChannelID
}

func (r *ChannelRef) layout(w *walker) {
	w.is("CH_ID")
	w.channel("channel_id", &r.Channel)
}

// Percent is PROG and PROG_LAST (protocol 3).
type Percent struct {
	Done uint8 // 0..100
}

func (p *Percent) layout(w *walker) {
	w.is("PROG")
	before := w.off
	w.u8("percent", &p.Done)
	if w.mode == decode && w.err == nil && p.Done > 100 {
		w.off = before
		w.fail("percent", "0 to 100")
	}
}

// HostVersion is HOST_VER (protocol 3). Decoding accepts three numbers as
// well, as the original sends them; the module revision is then 0.
type HostVersion struct {
	Version
}

func (v *HostVersion) layout(w *walker) {
	w.is("HOST_VER")
	w.u16("major", &v.Major)
	w.u16("minor", &v.Minor)
	w.u16("tcp_rev", &v.TCPRev)
	if w.mode == decode && w.err == nil && w.left() == 0 {
		v.ModRev = 0
		return
	}
	w.u16("mod_rev", &v.ModRev)
}

// ExtensionsGranted is the host's answer under AsyncExtensions: BYTES, u32.
type ExtensionsGranted struct {
	Granted Extensions
}

func (e *ExtensionsGranted) layout(w *walker) {
	w.is("EXTENSIONS")
	w.u32("granted", (*uint32)(&e.Granted))
}

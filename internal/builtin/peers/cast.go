package peers

import (
	"context"

	"mrci.dev/mrci/module"
)

func (c commands) cast() *module.Command {
	return &module.Command{
		Name:  "cast",
		Class: module.Ranked,
		Input: module.AnyInput,
		Short: "send a frame to all who have one of your sub-channels open",
		Long: "Sends the frame, as it is, to every other session that has one of those sub-channels open in which you may cast: " +
			"once to each, however many they share with you. Each frame is a call of its own. ls_open_chs shows what this session has " +
			"open; while nothing is, a cast reaches nobody. Types that only the host may say to a client are refused: " +
			"a cast is one of " + relayable + ".",
		Inline: true,
		Run: func(_ context.Context, call *module.Call) error {
			if !call.Type.Relayable() {
				return c.refuse(call)
			}
			return explain(c.Peers.Cast(call.Session().ID, call.Type, call.Input))
		},
	}
}

func (c commands) ping() *module.Command {
	return &module.Command{
		Name:  "ping_peers",
		Class: module.Ranked,
		Short: "ask who else is in your sub-channels",
		Long: "Tells the sessions that share an active sub-channel with this one who you are, and has them tell who they are. " +
			"The answers come as PEER_INFO after the call, from those who have an active sub-channel open themselves.",
		Hints:  module.Hints{Idempotent: true},
		Inline: true,
		Run: func(_ context.Context, call *module.Call) error {
			if !c.Peers.Ping(call.Session().ID) {
				return module.Invalid("You have no active sub-channel open; open one with open_sub_ch (ls_sub_chs shows which are active).")
			}
			return nil
		},
	}
}

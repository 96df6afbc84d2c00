package modeltest

import "mrci.dev/mrci/wire"

// used are the commands that the steps call.
var used = []string{
	"auth", "my_info", "logout", "set_user_name", "set_disp_name",
	"add_acct", "rm_acct", "lock_acct", "set_user_rank",
	"add_ch", "rm_ch", "rename_ch", "ls_chs",
	"add_sub_ch", "rm_sub_ch", "rename_sub_ch", "ls_sub_chs", "set_sub_ch_level", "set_active_flag",
	"add_rdonly_flag", "rm_rdonly_flag",
	"invite_to_ch", "accept_ch", "decline_ch", "remove_ch_member", "set_member_level", "ls_ch_members",
	"ch_owner_override", "open_sub_ch", "close_sub_ch", "ls_open_chs",
	"cast", "ping_peers",
	"p2p_request", "p2p_open", "p2p_close", "to_peer", "ls_p2p",
}

// administration are those of them that stay with rank 1, for which a command
// without an assigned rank is (commands 1.1).
var administration = map[string]bool{"add_acct": true, "lock_acct": true}

// rankOf is the rank that a command is assigned in these tests.
func rankOf(name string) wire.Rank {
	if administration[name] {
		return 1
	}
	return initialRank
}

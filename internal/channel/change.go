package channel

// Change is what a Service has changed: a MemberChange, a ChannelChange, a
// SubChange or a FlagChange.
type Change interface{ change() }

func (MemberChange) change()  {}
func (ChannelChange) change() {}
func (SubChange) change()     {}
func (FlagChange) change()    {}

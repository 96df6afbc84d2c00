// Package registry knows which commands exist on this host, gives each its id,
// and keeps, ready made, the list of commands for every kind of session: the
// commands themselves, and the ADD_CMD and RM_CMD frames that tell a client.
//
// Lists are immutable snapshots. A session holds a pointer to the one it was
// told, and asks for the current one when its rights change; neither costs a
// process or a query. Ids are host-wide and never used twice while the host
// runs. A Registry may be used from any goroutine.
//
// Who is offered what is decided by package access. Rules: commands 1.1 and
// 1.3, modules 1.3; DESIGN D7.
package registry

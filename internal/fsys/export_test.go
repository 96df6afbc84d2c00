package fsys

// LinkNew is the last step of Create.
var LinkNew = linkNew

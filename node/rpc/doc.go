// Package rpc is the node's gRPC server and the way to dial one.
//
// What it promises: every call, unary or stream, passes the same gate: the caller is who the certificate names, node/access
// allows it, it has a deadline (unary calls), it has a request id that the log has too, a panic ends the call and not the
// node, and an error reaches the caller as the fault that it was, with every field at fault (google.rpc.ErrorInfo and
// google.rpc.BadRequest); what nobody classified is logged in full and reaches nobody. Messages are bounded. What was dialed
// with Dial gives faults back.
//
// Services are handed in as plain values; the package knows none of them, no store and no regulation. Writes that reach a
// replica that does not lead are refused with fault.NotLeader and the leader's address; forwarding them is to come.
package rpc

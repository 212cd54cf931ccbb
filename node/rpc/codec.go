package rpc

import (
	"sync"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
)

// codec is gRPC's own, but that a message which can't be decoded reaches the gate. gRPC answers "internal" for it before any
// interceptor may say what it is: the sender's fault.
type codec struct {
	encoding.CodecV2
	broken sync.Map // message -> why it can't be decoded; until the gate asks
}

// Unmarshal decodes a message, and notes where that fails.
func (c *codec) Unmarshal(data mem.BufferSlice, m any) error {
	if err := c.CodecV2.Unmarshal(data, m); err != nil {
		c.broken.Store(m, err)
	}
	return nil
}

// check says what is wrong with a message that was received just now.
func (c *codec) check(m any) error {
	if why, found := c.broken.LoadAndDelete(m); found {
		return malformed(why.(error).Error())
	}
	return nil
}

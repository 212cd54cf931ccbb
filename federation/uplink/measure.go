package uplink

// measure compares the clocks by an exchange: the parent showed its time between sent and now. What the exchange itself may
// have taken is held against neither: the skew is what is certain.
func (c *Core) measure(sent, parent, now int64) {
	if sent == 0 {
		return
	}
	c.measured = now
	switch {
	case parent < sent:
		c.skew = parent - sent
	case parent > now:
		c.skew = parent - now
	default:
		c.skew = 0
	}
}

package fleet

import (
	"bufio"
	"errors"
	"io"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

// echo answers each line that it is told.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(c, c)
				_ = c.Close()
			}()
		}
	}()
	return l.Addr().String()
}

func ask(c net.Conn) error {
	if _, err := c.Write([]byte("there?\n")); err != nil {
		return err
	}
	answer, err := bufio.NewReader(c).ReadString('\n')
	if err == nil && answer != "there?\n" {
		return errors.New(answer)
	}
	return err
}

func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// A cut ends what is under way and takes nothing new; mended, the line has the same address.
func TestLine(t *testing.T) {
	l, err := lay(echo(t))
	require.NoError(t, err)
	defer l.close()
	before := dial(t, l.address())
	require.NoError(t, ask(before))
	l.set(true)
	require.Error(t, ask(before))
	require.Error(t, ask(dial(t, l.address())))
	l.set(false)
	require.Error(t, ask(before), "what was cut stays cut")
	require.NoError(t, ask(dial(t, l.address())))
	l.close()
	_, err = net.Dial("tcp", l.address())
	require.Error(t, err)
}

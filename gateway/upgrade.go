package gateway

import (
	"io"
	"net"
	"sync"
)

// upgrade passes on the answer that switches protocols, and then every byte in
// both directions until both have ended. A reload does not touch it.
func (c *conn) upgrade(u *upstream, n int) {
	x := &c.call
	b := c.appendResponse(c.bufs.out[:0])
	b = append(b, "Connection: Upgrade\r\n\r\n"...)
	b = append(b, c.bufs.up[c.respHead:n]...)
	if _, err := c.Write(b); err != nil {
		c.clientLeft(u)
		return
	}
	c.deadline.Store(0)
	c.moved.Store(0)
	c.phase.Store(phaseFree)
	early := append([]byte(nil), c.bufs.in[c.r:c.w]...)
	c.r, c.w = 0, 0
	c.release()
	var both sync.WaitGroup
	both.Go(func() {
		if len(early) > 0 {
			if _, err := u.nc.Write(early); err != nil {
				u.close()
				return
			}
		}
		if !copyHalf(u.nc, c.nc) {
			u.close()
		}
	})
	if !copyHalf(c.nc, u.nc) {
		_ = c.nc.Close()
	}
	both.Wait()
	c.detach(u)
	u.close()
	x.settled(101)
	x.finish(101)
}

// copyHalf carries one direction to its end and passes the end on. It reports
// false if the other direction has to be cut off too.
func copyHalf(dst, src net.Conn) bool {
	_, err := io.Copy(dst, src)
	if err != nil {
		_ = src.Close()
		return false
	}
	half, ok := dst.(interface{ CloseWrite() error })
	return ok && half.CloseWrite() == nil
}

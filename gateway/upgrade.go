package gateway

import (
	"net"
	"sync"
)

// upgrade implements client. A reload does not touch what it carries.
func (c *conn) upgrade(u *upstream, n int) {
	b := c.appendResponse(c.bufs.out[:0])
	b = append(b, "Connection: Upgrade\r\n\r\n"...)
	b = append(b, c.bufs.up[c.respHead:n]...)
	if _, err := c.Write(b); err != nil {
		c.lostUpgrade(u)
		return
	}
	c.moved.Store(0)
	c.phase.Store(phaseFree)
	early := append([]byte(nil), c.bufs.in[c.r:c.w]...)
	c.r, c.w = 0, 0
	c.release()
	c.tunnel(c.nc, u, early)
}

// tunnel carries bytes between a client and a worker that have switched
// protocols until both directions have ended. early is what the client has sent
// already.
func (x *exchange) tunnel(nc net.Conn, u *upstream, early []byte) {
	x.deadline.Store(0)
	var both sync.WaitGroup
	both.Go(func() {
		if len(early) > 0 {
			if _, err := u.nc.Write(early); err != nil {
				u.close()
				return
			}
		}
		if !copyHalf(u.nc, nc) {
			u.close()
		}
	})
	if !copyHalf(nc, u.nc) {
		_ = nc.Close()
	}
	both.Wait()
	x.detach(u)
	u.close()
	x.settle(nil)
}

// lostUpgrade ends a call whose client has gone before it could be told of the
// switch.
func (x *exchange) lostUpgrade(u *upstream) {
	x.detach(u)
	u.close()
	x.settle(errClient)
}

// copyHalf carries one direction to its end and passes the end on. It reports
// false if the other direction has to be cut off too.
func copyHalf(dst, src net.Conn) bool {
	var from sock
	from.init(src)
	if from.copyTo(dst) != nil {
		_ = src.Close()
		return false
	}
	half, ok := dst.(interface{ CloseWrite() error })
	return ok && half.CloseWrite() == nil
}

package rest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/internal/api/bound"
	"github.com/rota-project/rota/internal/api/convert"
	"github.com/rota-project/rota/internal/unread"
)

// firstRead is how much of a body of unknown length is asked for at first.
const firstRead = 16 << 10

// readBody reads the body of r into memory, as much as the route takes, paid for
// by the pass before it is read. It looks through it for lists that are too long
// and for what it will take when it is decoded. It answers and reports false if
// anything of that is not possible.
func readBody(w http.ResponseWriter, r *http.Request, pass *auth.Pass, to route) bool {
	if r.Body == nil || r.Body == http.NoBody || to.body == 0 {
		r.Body = http.NoBody
		return true
	}
	if r.ContentLength > int64(to.body) {
		tooLarge(w, r, to)
		return false
	}
	data, err := readAll(w, r, pass, to.body)
	var cost int
	switch {
	case errors.Is(err, errTooLarge):
		tooLarge(w, r, to)
		return false
	case err != nil:
		if _, ok := status.FromError(err); ok {
			unread.Close(w, r)
		} else {
			err = status.Error(codes.InvalidArgument, "the body cannot be read: "+err.Error())
		}
	default:
		if cost, err = bound.JSON(data, to.input); err == nil {
			// It is decoded here and, after a way through the process, once more.
			err = pass.Try(2*cost + len(data))
		}
		err = convert.Error(err)
	}
	if err != nil {
		handleError(r.Context(), nil, marshaler{}, w, r, err)
		return false
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	r.Body = io.NopCloser(bytes.NewReader(data))
	return true
}

func tooLarge(w http.ResponseWriter, r *http.Request, to route) {
	refuse(w, r, http.StatusRequestEntityTooLarge, "invalid_argument", fmt.Sprintf("the body has more than %d bytes", to.body))
}

var errTooLarge = errors.New("the body is too large")

// readAll reads a body of at most so many bytes.
func readAll(w http.ResponseWriter, r *http.Request, pass *auth.Pass, most int) ([]byte, error) {
	body := &stallReader{r.Body, http.NewResponseController(w), r, time.Now().Add(bodyTime)}
	if n := int(r.ContentLength); n >= 0 {
		if err := pass.Take(r.Context(), n); err != nil {
			return nil, err
		}
		data := make([]byte, n)
		_, err := io.ReadFull(body, data)
		return data, err
	}
	var data []byte
	for room := firstRead; ; room = len(data) {
		if err := pass.Try(room); err != nil {
			return nil, err
		}
		n := len(data)
		data = append(data, make([]byte, min(room, most+1-n))...)
		m, err := io.ReadFull(body, data[n:])
		data = data[:n+m]
		switch {
		case len(data) > most:
			return nil, errTooLarge
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return data, nil
		case err != nil:
			return nil, err
		}
	}
}

// stallReader gives each read of a body its own time, and all of them together
// one that ends.
type stallReader struct {
	io.ReadCloser
	ctl *http.ResponseController
	r   *http.Request
	end time.Time
}

func (s *stallReader) Read(p []byte) (int, error) {
	by := time.Now().Add(stall)
	if by.After(s.end) {
		by = s.end
	}
	limit(s.r, s.ctl.SetReadDeadline, by)
	return s.ReadCloser.Read(p)
}

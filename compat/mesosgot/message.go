package mesosgot

import (
	"errors"
	"strings"

	"github.com/rota-project/rota/program"
)

// DefTaskChanLen is the length of the channels between functions and the program.
const DefTaskChanLen = 256

// GoTaskMsg is a message between the scheduler function and a task; TaskName is
// whichever end is the task.
type GoTaskMsg struct {
	TaskName    string
	MessageData string
}

// delimiter divides an encoded message.
const delimiter = "^"

// EncodeMsg writes a message as text.
func EncodeMsg(m GoTaskMsg) (string, error) {
	if strings.Contains(m.TaskName, delimiter) {
		return "", errors.New("mesosgot: a task's name cannot have a " + delimiter)
	}
	return m.TaskName + delimiter + m.MessageData, nil
}

// DecodeMsg reads what EncodeMsg has written; the data may have any bytes.
func DecodeMsg(s string) (GoTaskMsg, error) {
	name, data, ok := strings.Cut(s, delimiter)
	if !ok {
		return GoTaskMsg{}, errors.New("mesosgot: a message without " + delimiter)
	}
	return GoTaskMsg{TaskName: name, MessageData: data}, nil
}

func fromMsg(m program.Msg) GoTaskMsg {
	return GoTaskMsg{TaskName: m.Task, MessageData: string(m.Data)}
}

func (m GoTaskMsg) msg() program.Msg {
	return program.Msg{Task: m.TaskName, Data: []byte(m.MessageData)}
}

// both gives a function channels of the old form beside those that it has. In is
// closed with its source if closes is set. What was sent when f returns is handed on.
func both(in <-chan program.Msg, out chan<- program.Msg, closes bool, f func(<-chan GoTaskMsg, chan<- GoTaskMsg) error) error {
	oldIn, oldOut := make(chan GoTaskMsg, DefTaskChanLen), make(chan GoTaskMsg, DefTaskChanLen)
	over, sent := make(chan struct{}), make(chan struct{})
	go func() {
		for m := range in {
			if m.Err() != nil {
				continue // it came back; the program is told
			}
			select {
			case oldIn <- fromMsg(m):
			case <-over:
				return
			}
		}
		if closes {
			close(oldIn)
		}
	}()
	go func() {
		defer close(sent)
		for {
			select {
			case m := <-oldOut:
				out <- m.msg()
			case <-over:
				for {
					select {
					case m := <-oldOut:
						out <- m.msg()
					default:
						return
					}
				}
			}
		}
	}()
	defer func() {
		close(over)
		<-sent
	}()
	return f(oldIn, oldOut)
}

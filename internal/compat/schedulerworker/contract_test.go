package schedulerworker

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/rota-project/rota/internal/uuid"
)

// The old side of the tests is made from the contract's own words and shares no
// code with the product: descriptors are built from this text at run time. It
// does what the real programs were seen to do:
//
//   - RegisterWorker leaves success false and answers a new UUID each time, also
//     for an address that is registered already: a workerID that is not empty
//     says that a worker is registered.
//   - DeregisterWorker succeeds whatever the id, and leaves success false.
//   - The scheduler remembers nothing over a restart, and the worker does not
//     register again: it sends no heartbeat and does not look.
//   - The scheduler dials the worker anew for each call.
//   - StartJob runs the command with the path as its argument in the directory in
//     which the worker was started; an empty path is an empty argument.
//   - StopJob kills. For a job that has ended it answers that the process has
//     finished, with the status Unknown; every error has that status.
//   - QueryJob says of a killed job "signal: killed", of one that failed "exit
//     status N".
//   - The HTTP API answers 500 with {"error": text} to every error.
const contract = `
RegisterReq{string address=1}
RegisterRes{bool success=1; string workerID=2}
DeregisterReq{string workerID=1}
DeregisterRes{bool success=1}
StartJobReq{string command=1; string path=2}
StartJobRes{string jobID=1}
StopJobReq{string jobID=1}
StopJobRes{}
QueryJobReq{string jobID=1}
QueryJobRes{bool done=1; bool error=2; string errorText=3}
StreamJobReq{string path=1}
StreamJobRes{string output=1}
`

// old has the contract's messages by name.
var old = func() map[string]protoreflect.MessageDescriptor {
	file := &descriptorpb.FileDescriptorProto{Name: proto.String("contract.proto"), Package: proto.String("jobscheduler"), Syntax: proto.String("proto3")}
	for l := range strings.Lines(strings.TrimSpace(contract)) {
		name, fields, _ := strings.Cut(strings.TrimSuffix(strings.TrimSpace(l), "}"), "{")
		m := &descriptorpb.DescriptorProto{Name: &name}
		for f := range strings.SplitSeq(fields, ";") {
			var kind, rest string
			var number int32
			if strings.TrimSpace(f) == "" {
				continue
			}
			if _, err := fmt.Sscan(strings.ReplaceAll(f, "=", " "), &kind, &rest, &number); err != nil {
				panic(err)
			}
			typ := descriptorpb.FieldDescriptorProto_TYPE_STRING
			if kind == "bool" {
				typ = descriptorpb.FieldDescriptorProto_TYPE_BOOL
			}
			m.Field = append(m.Field, &descriptorpb.FieldDescriptorProto{
				Name: &rest, JsonName: &rest, Number: &number, Type: &typ, Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
			})
		}
		file.MessageType = append(file.MessageType, m)
	}
	fd, err := protodesc.NewFile(file, nil)
	if err != nil {
		panic(err)
	}
	out := map[string]protoreflect.MessageDescriptor{}
	for i := range fd.Messages().Len() {
		out[string(fd.Messages().Get(i).Name())] = fd.Messages().Get(i)
	}
	return out
}()

// msg makes a message of the contract.
func msg(name string, fields map[string]any) *dynamicpb.Message {
	m := dynamicpb.NewMessage(old[name])
	for k, v := range fields {
		m.Set(old[name].Fields().ByName(protoreflect.Name(k)), protoreflect.ValueOf(v))
	}
	return m
}

func field(m *dynamicpb.Message, name string) any {
	return m.Get(m.Descriptor().Fields().ByName(protoreflect.Name(name))).Interface()
}

// oldCall is a call as an old peer makes it.
func oldCall(ctx context.Context, conn *grpc.ClientConn, service, method string, req map[string]any) (*dynamicpb.Message, error) {
	prefix := strings.TrimSuffix(method, "Worker") // RegisterWorker → RegisterReq
	resp := msg(prefix+"Res", nil)
	return resp, conn.Invoke(ctx, "/jobscheduler."+service+"/"+method, msg(prefix+"Req", req), resp)
}

func oldDial(t *testing.T, addr string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// oldStream reads a StreamJob to its end.
func oldStream(ctx context.Context, conn *grpc.ClientConn, id string) (string, error) {
	s, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, "/jobscheduler.Worker/StreamJob")
	if err != nil {
		return "", err
	}
	if err := s.SendMsg(msg("StreamJobReq", map[string]any{"path": id})); err != nil {
		return "", err
	}
	if err := s.CloseSend(); err != nil {
		return "", err
	}
	var out strings.Builder
	for {
		m := msg("StreamJobRes", nil)
		if err := s.RecvMsg(m); err != nil {
			return out.String(), err
		}
		out.WriteString(field(m, "output").(string))
	}
}

// oldHandler answers one method of an old peer.
type oldHandler func(ctx context.Context, req *dynamicpb.Message) (map[string]any, error)

// oldServer is an old scheduler or worker.
func oldServer(t *testing.T, l net.Listener, service string, methods map[string]oldHandler, stream func(id string, send func(string) error) error) *grpc.Server {
	t.Helper()
	desc := grpc.ServiceDesc{ServiceName: "jobscheduler." + service, HandlerType: (*any)(nil)}
	for name, h := range methods {
		prefix := strings.TrimSuffix(name, "Worker")
		desc.Methods = append(desc.Methods, grpc.MethodDesc{
			MethodName: name,
			Handler: func(_ any, ctx context.Context, dec func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
				req := msg(prefix+"Req", nil)
				if err := dec(req); err != nil {
					return nil, err
				}
				res, err := h(ctx, req)
				if err != nil {
					return nil, err
				}
				return msg(prefix+"Res", res), nil
			},
		})
	}
	if stream != nil {
		desc.Streams = append(desc.Streams, grpc.StreamDesc{StreamName: "StreamJob", ServerStreams: true, Handler: func(_ any, s grpc.ServerStream) error {
			req := msg("StreamJobReq", nil)
			if err := s.RecvMsg(req); err != nil {
				return err
			}
			return stream(field(req, "path").(string), func(text string) error {
				return s.SendMsg(msg("StreamJobRes", map[string]any{"output": text}))
			})
		}})
	}
	srv := grpc.NewServer()
	srv.RegisterService(&desc, nil)
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(srv.Stop)
	return srv
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// oldWorkerServer is an old worker: one job runs until it is stopped.
func oldWorkerServer(t *testing.T, l net.Listener) *grpc.Server {
	t.Helper()
	const job = "11111111-2222-4333-8444-555555555555"
	done := make(chan struct{})
	known := func(m *dynamicpb.Message) error {
		if field(m, "jobID") != job {
			return status.Error(codes.Unknown, "job not found")
		}
		return nil
	}
	return oldServer(t, l, "Worker", map[string]oldHandler{
		"StartJob": func(_ context.Context, m *dynamicpb.Message) (map[string]any, error) {
			if field(m, "command") != "bash" || field(m, "path") != "count.sh" {
				return nil, status.Errorf(codes.Unknown, "exec: %q: executable file not found in $PATH", field(m, "command"))
			}
			return map[string]any{"jobID": job}, nil
		},
		"StopJob": func(_ context.Context, m *dynamicpb.Message) (map[string]any, error) {
			if err := known(m); err != nil {
				return nil, err
			}
			select {
			case <-done:
				return nil, status.Error(codes.Unknown, "os: process already finished")
			default:
				close(done)
				return nil, nil
			}
		},
		"QueryJob": func(_ context.Context, m *dynamicpb.Message) (map[string]any, error) {
			if err := known(m); err != nil {
				return nil, err
			}
			select {
			case <-done:
				return map[string]any{"done": true, "error": true, "errorText": "signal: killed"}, nil
			default:
				return map[string]any{}, nil
			}
		},
	}, func(id string, send func(string) error) error {
		if id != job {
			return status.Error(codes.Unknown, "job not found")
		}
		for i := range 3 {
			if err := send(fmt.Sprintf("%d\n", i+1)); err != nil {
				return err
			}
		}
		return nil
	})
}

// twin is an old scheduler.
type twin struct {
	mu         sync.Mutex
	workers    map[string]string // address by id
	registered chan string       // ids, as they come
	left       chan string
}

// oldSchedulerServer is an old scheduler; a new one on the same address has
// forgotten its workers.
func oldSchedulerServer(t *testing.T, l net.Listener) (*twin, *grpc.Server) {
	t.Helper()
	s := &twin{workers: map[string]string{}, registered: make(chan string, 100), left: make(chan string, 100)}
	return s, oldServer(t, l, "Scheduler", map[string]oldHandler{
		"RegisterWorker": func(_ context.Context, m *dynamicpb.Message) (map[string]any, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			id := uuid.New(time.Now())
			s.workers[id] = field(m, "address").(string)
			s.registered <- id
			return map[string]any{"workerID": id}, nil
		},
		"DeregisterWorker": func(_ context.Context, m *dynamicpb.Message) (map[string]any, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			id := field(m, "workerID").(string)
			delete(s.workers, id)
			s.left <- id
			return nil, nil
		},
	}, nil)
}

func (s *twin) address(id string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.workers[id]
}

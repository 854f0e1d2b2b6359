package cli

import (
	"context"
	"io"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/cmd/rota/internal/terminal"
)

func (a *app) memberCommand() *cobra.Command {
	return group("member", "the schedulers that keep the store together (rota scheduler --cluster)", a.memberList(), a.memberRemove())
}

func (a *app) memberList() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "list the members of the cluster, and whether they answer",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.call(cmd.Context(), func(ctx context.Context, conn *grpc.ClientConn) error {
				resp, err := rotav1.NewMembersClient(conn).ListMembers(ctx, &rotav1.ListMembersRequest{})
				if err != nil {
					return err
				}
				if !resp.GetQuorum() {
					a.say("the quorum is lost: not more than half of the members answer. What runs goes on as long as it may; nothing can be changed until more are back")
				}
				return printList(a, resp.GetMembers(), func(w io.Writer) error {
					t := terminal.NewTable("MEMBER", "STATE", "ADDRESS", "ERROR")
					for _, m := range resp.GetMembers() {
						t.Add(m.GetName(), m.GetState(), m.GetAddress(), dash(m.GetError()))
					}
					return t.Write(w, a.paint())
				})
			})
		},
	}
}

func (a *app) memberRemove() *cobra.Command {
	return &cobra.Command{
		Use:   "remove MEMBER",
		Short: "remove a member for ever; refused if the others could not go on without it",
		Long: "Remove a member for ever. It is refused if those that stay would be no quorum.\n\n" +
			"One that runs ends. To let it, or another one in its place, in again start it with an empty data directory and --join.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.call(cmd.Context(), func(ctx context.Context, conn *grpc.ClientConn) error {
				if _, err := rotav1.NewMembersClient(conn).RemoveMember(ctx, &rotav1.RemoveMemberRequest{Name: args[0]}); err != nil {
					return err
				}
				a.say("member %s is removed", args[0])
				return nil
			})
		},
	}
}

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
	return group("member", "members of a cluster of schedulers (rota scheduler --cluster)", a.memberList(), a.memberRemove())
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
					a.say("the quorum is lost: no more than half of the members answer. Running work goes on while its leases allow; nothing can change until more members are back")
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
		Short: "remove a member for good; refused if the others would have no quorum",
		Long: "Remove a member for good. The command is refused if the remaining members would have no quorum.\n\n" +
			"A running scheduler exits when it is removed. To let it or a replacement join, start it with an empty data directory and --join.",
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

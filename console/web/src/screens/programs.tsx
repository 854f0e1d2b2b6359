// Programs: functions that run together. The list, and one of them beside it.
import { link } from "../api/live";
import { usePoll } from "../api/use";
import type { ListPrograms, Program } from "../api/types";
import { count } from "../format";
import { href, route } from "../route";
import { Age, Empty, Failed, Heading, Loading } from "../ui/parts";
import { State } from "../ui/state";
import { Table, type Column } from "../ui/table";
import { ProgramSheet } from "./program";

const columns: Column<Program>[] = [
  { name: "Program", grow: true, of: (p) => <span class="id">{p.name}</span> },
  { name: "State", of: (p) => <State state={p.phase} /> },
  { name: "Tasks", num: true, of: (p) => `${count(p.tasks.filter((t) => t.state === "running").length)} of ${count(p.tasks.length)}` },
  { name: "Messages/s", num: true, at: "tablet", of: (p) => count(p.messages_per_second) },
  { name: "Host", at: "tablet", of: (p) => <span class="id">{p.host}</span> },
  { name: "Since", num: true, at: "tablet", of: (p) => <Age time={p.since} /> },
];

export function Programs() {
  const { id, query } = route.value;
  const { data, error } = usePoll<ListPrograms>("/v1/programs");
  const rows = data?.programs ?? [];
  return (
    <div class={id ? "split open" : "split"}>
      <div class="list-side">
        <Heading title="Programs" note="Functions that run together, all or none, and talk over channels." />
        {error && link.value === "live" && <Failed what="The list cannot be shown." error={error} />}
        {!data && !error && <Loading />}
        {data && rows.length === 0 && (
          <Empty title="No program runs" command="go run ./examples/elevator -cluster HOST:50000">
            A program is a Go function that starts others on the workers. While it runs, it is here.
          </Empty>
        )}
        {rows.length > 0 && <Table label="Programs" rows={rows} columns={columns} name={(p) => p.name} link={(p) => href("programs", p.name, query)} chosen={id} />}
      </div>
      {id && <ProgramSheet name={id} key={id} />}
    </div>
  );
}

import { render } from "preact";
import { start } from "./api/live";
import { startTasks } from "./api/tasks";
import { App } from "./app";
import "./style/base.css";
import "./style/frame.css";
import "./style/parts.css";
import "./style/map.css";
import "./style/screens.css";

start();
startTasks();
const app = document.getElementById("app");
app?.replaceChildren(); // what stands there says that nothing is known yet
if (app) render(<App />, app);

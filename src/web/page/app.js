const log = document.getElementById("log");
const source = new EventSource("/api/live");
for (const event of ["hello", "state", "stats", "frames", "event", "gone", "missed"]) {
  source.addEventListener(event, (message) => {
    log.textContent = `${event} ${message.data}\n${log.textContent}`.slice(0, 20000);
  });
}

//! A browser, driven over WebDriver (<https://www.w3.org/TR/webdriver2/>): as much of it as is needed.

use std::{
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::PathBuf,
    process::{Child, Stdio},
    time::Duration,
};

use serde_json::{Value, json};

use crate::common::{command, wait_until};

const LONG: Duration = Duration::from_secs(20);

/// Chromium without a window.
pub(crate) struct Browser {
    driver: Child,
    port: u16,
    session: String,
}

impl Browser {
    /// Starts it. It ends when it is dropped.
    pub(crate) fn start() -> Self {
        let home = PathBuf::from("/run/browser");
        fs::create_dir_all(&home).unwrap();
        let mut driver = command("chromedriver")
            .arg("--port=0")
            .env("HOME", &home)
            .env("TMPDIR", &home)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(driver.stdout.take().unwrap());
        let port = stdout.lines().find_map(|line| {
            let line = line.unwrap();
            let (_, port) = line.split_once("started successfully on port ")?;
            port.trim_end_matches('.').parse().ok()
        });
        let mut browser = Self {
            driver,
            port: port.expect("chromedriver tells its port"),
            session: String::new(),
        };
        let options = json!({
            "args": [
                "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                "--disable-background-networking", "--hide-scrollbars", "--lang=en",
            ],
        });
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let session = browser.call("POST", "/session", &wanted);
        let id = session["sessionId"].as_str().expect("a session");
        browser.session = format!("/session/{id}");
        browser.resize(1920, 1080);
        browser
    }

    /// One command; panics if the driver refuses it.
    #[track_caller]
    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        let body = match method {
            "POST" => body.to_string(),
            _ => String::new(),
        };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body.as_bytes()).unwrap();
        let mut answer = BufReader::new(stream);
        let (mut line, mut len) = (String::new(), 0);
        while answer.read_line(&mut line).unwrap() > 2 {
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                len = value.trim().parse().unwrap();
            }
            line.clear();
        }
        let mut text = vec![0; len];
        answer.read_exact(&mut text).unwrap();
        let answer: Value = serde_json::from_slice(&text).unwrap();
        let value = answer["value"].clone();
        assert!(
            value["error"].is_null(),
            "{method} {path}: {}",
            value["message"]
        );
        value
    }

    #[track_caller]
    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        self.call(method, &format!("{}{path}", self.session), body)
    }

    /// Opens a page.
    #[track_caller]
    pub(crate) fn open(&self, url: &str) {
        self.ask("POST", "/url", &json!({ "url": url }));
    }

    /// Runs a script in the page and returns what it returns.
    #[track_caller]
    pub(crate) fn run(&self, script: &str) -> Value {
        self.ask(
            "POST",
            "/execute/sync",
            &json!({"script": script, "args": []}),
        )
    }

    /// The text that a script returns.
    #[track_caller]
    pub(crate) fn text(&self, script: &str) -> String {
        let value = self.run(&format!("return String({script})"));
        value.as_str().unwrap().to_owned()
    }

    /// Waits until an expression is true.
    #[track_caller]
    pub(crate) fn wait(&self, expression: &str) {
        let script = format!("return Boolean({expression})");
        wait_until(expression, LONG, || self.run(&script) == true);
    }

    /// Waits until no envelope moves.
    #[track_caller]
    pub(crate) fn rests(&self) {
        let script = "const look = () => [...document.querySelectorAll('.sprite')]
                        .map(e => e.getAttribute('transform')).join();
                      const before = look();
                      return new Promise(done => setTimeout(() => done(look() === before), 250))";
        wait_until("envelopes rest", LONG, || self.run(script) == true);
    }

    /// Presses keys, one after the other. Those without a letter are in the private use area.
    #[track_caller]
    pub(crate) fn press(&self, keys: &str) {
        let strokes: Vec<Value> = keys
            .chars()
            .flat_map(|key| ["keyDown", "keyUp"].map(|kind| json!({"type": kind, "value": key})))
            .collect();
        let actions = json!({"actions": [{"type": "key", "id": "keys", "actions": strokes}]});
        self.ask("POST", "/actions", &actions);
    }

    /// Clicks where the middle of an element is, as a mouse does.
    #[track_caller]
    pub(crate) fn click(&self, selector: &str) {
        self.wait(&format!("document.querySelector({})", json!(selector)));
        let middle = self.run(&format!(
            "const found = document.querySelector({});
             if (!found.closest('svg')) found.scrollIntoView({{block: 'nearest'}});
             const {{x, y, width, height}} = found.getBoundingClientRect();
             return [Math.round(x + width / 2), Math.round(y + height / 2)]",
            json!(selector)
        ));
        let steps = json!([
            {"type": "pointerMove", "duration": 0, "x": middle[0], "y": middle[1]},
            {"type": "pointerDown", "button": 0},
            {"type": "pointerUp", "button": 0},
        ]);
        let mouse = json!({"type": "pointer", "id": "mouse", "actions": steps});
        self.ask("POST", "/actions", &json!({ "actions": [mouse] }));
    }

    /// A command of the DevTools protocol.
    #[track_caller]
    pub(crate) fn devtools(&self, command: &str, parameters: &Value) -> Value {
        let body = json!({"cmd": command, "params": parameters});
        self.ask("POST", "/goog/cdp/execute", &body)
    }

    /// Makes the page as large as a screen.
    #[track_caller]
    pub(crate) fn resize(&self, width: u32, height: u32) {
        let size = json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false,
        });
        self.devtools("Emulation.setDeviceMetricsOverride", &size);
    }

    /// Whether the system asks for little movement.
    #[track_caller]
    pub(crate) fn set_reduced_motion(&self, is_reduced: bool) {
        let value = if is_reduced {
            "reduce"
        } else {
            "no-preference"
        };
        let feature = json!({"name": "prefers-reduced-motion", "value": value});
        self.devtools(
            "Emulation.setEmulatedMedia",
            &json!({ "features": [feature] }),
        );
    }

    /// What the console had to say since the last time, refusals of the policy among it.
    #[track_caller]
    pub(crate) fn complaints(&self) -> Vec<String> {
        let entries = self.ask("POST", "/se/log", &json!({"type": "browser"}));
        let told = |entry: &Value| entry["message"].as_str().unwrap_or_default().to_owned();
        entries.as_array().unwrap().iter().map(told).collect()
    }

    /// Keeps a picture of the page, if somebody wants to look: in `$TAPSWITCH_SHOTS`.
    #[track_caller]
    pub(crate) fn picture(&self, name: &str) {
        let Some(directory) = env::var_os("TAPSWITCH_SHOTS") else {
            return;
        };
        let encoded = self.ask("GET", "/screenshot", &Value::Null);
        let image = from_base64(encoded.as_str().unwrap());
        fs::write(PathBuf::from(directory).join(format!("{name}.png")), image).unwrap();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) {
            let path = &self.session;
            let request =
                format!("DELETE {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
            drop(stream.set_read_timeout(Some(Duration::from_secs(5))));
            drop(stream.write_all(request.as_bytes()));
            drop(stream.read(&mut [0; 64]));
        }
        drop(self.driver.kill());
        drop(self.driver.wait());
    }
}

fn from_base64(text: &str) -> Vec<u8> {
    let digit = |c: u8| -> u32 {
        match c {
            b'A'..=b'Z' => u32::from(c - b'A'),
            b'a'..=b'z' => u32::from(c - b'a') + 26,
            b'0'..=b'9' => u32::from(c - b'0') + 52,
            b'+' => 62,
            _ => 63,
        }
    };
    let digits: Vec<u32> = text.bytes().filter(|&c| c != b'=').map(digit).collect();
    let group = |four: &[u32]| {
        let shifted = four
            .iter()
            .zip([18, 12, 6, 0])
            .map(|(digit, by)| digit << by);
        let [_, bytes @ ..] = shifted.sum::<u32>().to_be_bytes();
        let len = four.len() * 3 / 4;
        bytes.into_iter().take(len)
    };
    digits.chunks(4).flat_map(group).collect()
}

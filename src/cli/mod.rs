//! The command line: reads arguments, asks the daemon, prints the answer.

use std::{
    env,
    ffi::OsString,
    io::{self, IsTerminal, Write},
    ops::ControlFlow,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::{CommandFactory, Parser};
use serde::Serialize;

pub mod args;
mod bench;
mod capture;
mod doctor;
pub(crate) mod explain;
mod interrupt;
mod lab;
mod log;
mod manual;
pub(crate) mod output;
mod rates;
mod request;
mod top;
mod trace;
pub mod values;
mod web;

use self::{
    args::{
        BridgeCommand, Cli, Command, DemoArgs, FdbAddArgs, FdbCommand, Globals, PortCommand,
        RunArgs, VtepCommand, VtepSetArgs,
    },
    interrupt::Interrupt,
    values::EventKind,
};
use crate::{
    bench::load,
    config::{self, Diagnostic, Place, StaticSpec, SwitchSpec, TextError},
    control::{
        api::{ApiError, DoctorRequest, Event, Request, Response},
        client::{Client, ClientError},
        metrics::Audience,
        socket::default_path,
    },
    daemon::{self, DaemonOptions, Tuning},
    demo::{self, LiveOptions},
    names::{Name, shown},
    sys::clock,
    wire::MacAddr,
};

/// Runs the program with `arguments`, of which the first is its own name.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // It says all it has to say, also --help; a closed pipe changes nothing about it.
            let printed = error.print().and_then(|()| io::stdout().flush());
            let code = u8::try_from(error.exit_code()).unwrap_or(2);
            return match printed {
                Err(error) if code == 0 && error.kind() != io::ErrorKind::BrokenPipe => {
                    drop(writeln!(
                        io::stderr(),
                        "tapswitch: {}",
                        CliError::Output(error)
                    ));
                    ExitCode::from(1)
                }
                _ => ExitCode::from(code),
            };
        }
    };
    let result = carry_out(cli.globals, cli.command, &mut io::stdout().lock());
    let (code, message) = match result {
        Ok(()) => return ExitCode::SUCCESS,
        // Whoever read the output has seen enough.
        Err(CliError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            return ExitCode::SUCCESS;
        }
        Err(CliError::Client(error)) if error.is_usage() => (2, error.to_string()),
        Err(CliError::Usage(message)) => (2, message),
        Err(CliError::Said(code)) => return ExitCode::from(code),
        Err(error) => (1, error.to_string()),
    };
    drop(writeln!(io::stderr(), "tapswitch: {message}"));
    ExitCode::from(code)
}

#[derive(Debug, thiserror::Error)]
enum CliError {
    /// The arguments make no sense.
    #[error("{0}")]
    Usage(String),
    /// It did not work.
    #[error("{0}")]
    Failed(String),
    /// Everything has been said already; only the exit code is left.
    #[error("exit code {0}")]
    Said(u8),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("write result: {0}")]
    Output(#[from] io::Error),
}

fn carry_out(globals: Globals, command: Command, out: &mut impl Write) -> Result<(), CliError> {
    let remote = Remote {
        client: client(globals.socket.unwrap_or_else(socket_path)),
        json: globals.json,
    };
    match command {
        Command::Demo(args) => {
            // It tells its own story; the log would tell it twice.
            let _log = (globals.verbose > 0).then(|| log::start(globals.verbose));
            show_demo(args, remote.json, out)
        }
        Command::Run(args) => {
            let _log = log::start(globals.verbose);
            let options = daemon_options(args, remote.client.path());
            daemon::run(&options, out).map_err(|error| match error.is_usage() {
                true => CliError::Usage(error.to_string()),
                false => CliError::Failed(error.to_string()),
            })
        }
        Command::Check { file } => remote.check(&file, out),
        Command::Apply { file, dry_run } => {
            let spec = read_file(&file)?.map_err(|errors| refuse_file(&file, &errors))?;
            remote.ask(&Request::Apply { spec, dry_run }, out)
        }
        Command::Show => remote.ask(&Request::Show, out),
        Command::Vtep(command) => {
            let request = remote.vtep_request(command)?;
            remote.ask(&request, out)
        }
        Command::Peer(command) => remote.ask(&request::peer(command)?, out),
        Command::Bridge(command) => remote.ask(&bridge_request(command)?, out),
        Command::Port(command) => remote.ask(&port_request(command)?, out),
        Command::Fdb(command) => {
            let request = remote.fdb_request(command)?;
            remote.ask(&request, out)
        }
        Command::Why(args) => remote.ask(&Request::Why(args.into()), out),
        Command::Stats(args) => {
            let request = Request::Stats { port: args.port };
            match args.watch {
                true => remote.watch(&request, args.interval, out),
                false => remote.ask(&request, out),
            }
        }
        Command::Top(_) if remote.json => remote.ask(&Request::Counters, out),
        Command::Top(args) => top::run(&remote.client, args.interval),
        Command::Doctor { from, to } => remote.doctor(DoctorRequest { from, to }, out),
        Command::Monitor(args) => remote.monitor(&[args.kinds, args.also].concat(), out),
        Command::Trace(args) => trace::run(args, &remote, out),
        Command::Explain(args) => explain::run(&args, remote.json, out),
        Command::Capture(args) => {
            let is_verbose = globals.verbose > 0;
            capture::run(args, &remote.client, remote.json, is_verbose, out)
        }
        Command::Web(args) => {
            let _log = log::start(globals.verbose);
            web::run(args, &remote.client, out)
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "tapswitch", &mut script);
            Ok(out.write_all(&script)?)
        }
        Command::Man { directory } => write_manual(&directory),
        Command::Lab(command) => lab::run(command, remote.json, out),
        Command::Bench(args) => bench::run(&args, remote.json, out),
        Command::Load { order } => load::run(&order, &mut io::stdin().lock(), out)
            .map_err(|error| CliError::Failed(error.to_string())),
    }
}

/// Where the daemon is if the command does not say it.
fn socket_path() -> PathBuf {
    let named = env::var_os("TAPSWITCH_SOCKET").filter(|path| !path.is_empty());
    named.map_or_else(default_path, PathBuf::from)
}

fn show_demo(args: DemoArgs, json: bool, out: &mut impl Write) -> Result<(), CliError> {
    let Some(address) = args.web else {
        return Ok(demo::run(json, out)?);
    };
    if json {
        let text = "demo --web --json: a page is no JSON value; leave one of both out";
        return Err(CliError::Usage(text.to_owned()));
    }
    let token = args.web_token;
    let shown = demo::live(&LiveOptions { address, token }, web::ended, out);
    shown.map_err(|error| match error.is_usage() {
        true => CliError::Usage(error.to_string()),
        false => CliError::Failed(error.to_string()),
    })
}

fn bridge_request(command: BridgeCommand) -> Result<Request, CliError> {
    match command {
        BridgeCommand::Add(args) => request::bridge_add(args),
        BridgeCommand::Set(args) => request::bridge_set(args),
        BridgeCommand::Del { name } => Ok(Request::BridgeDel { name }),
        BridgeCommand::Show { name } => Ok(Request::BridgeShow { name }),
    }
}

fn port_request(command: PortCommand) -> Result<Request, CliError> {
    match command {
        PortCommand::Add(args) => request::port_add(*args),
        PortCommand::Set(args) => request::port_set(args),
        PortCommand::Del { name } => Ok(Request::PortDel { name }),
        PortCommand::Show { name } => Ok(Request::PortShow { name }),
    }
}

/// A client that says on standard error that an answer takes long.
fn client(socket: PathBuf) -> Client {
    Client::new(socket).tell_of_waiting(|waiting| {
        drop(writeln!(io::stderr(), "tapswitch: {waiting}"));
    })
}

/// Commands that talk to the daemon.
struct Remote {
    client: Client,
    json: bool,
}

impl Remote {
    fn ask(&self, request: &Request, out: &mut impl Write) -> Result<(), CliError> {
        let answer = self.client.request(request)?;
        self.print(request, &answer, out)?;
        out.flush()?;
        match answer {
            Response::Ping(report) if report.received == 0 => Err(CliError::Said(1)),
            _ => Ok(()),
        }
    }

    fn print(&self, request: &Request, answer: &Response, out: &mut impl Write) -> io::Result<()> {
        match request {
            _ if self.json => output::json(out, answer),
            // The port is in place; nobody asked for its counters.
            Request::PortAdd(_) => Ok(()),
            _ => output::human(out, answer),
        }
    }

    fn watch(
        &self,
        request: &Request,
        interval: Duration,
        out: &mut impl Write,
    ) -> Result<(), CliError> {
        let clears = !self.json && io::stdout().is_terminal();
        let interval = interval.max(SHORTEST_INTERVAL);
        let stop = Interrupt::wish()?;
        let mut last = None;
        let mut show = |answer| -> Result<(), CliError> {
            let Response::Stats(stats) = answer else {
                return Err(self.client.unexpected().into());
            };
            if self.json {
                output::json_value(out, &stats)?;
            } else {
                let screen = output::watch(last.as_ref(), &stats, clock::unix_time(), interval)?;
                output::screen(out, &screen, clears)?;
            }
            out.flush()?;
            last = Some(stats);
            Ok(())
        };
        let mut written = Ok(());
        self.client
            .request_again(request, interval, stop, |answer| {
                written = show(answer);
                match &written {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(_) => ControlFlow::Break(()),
                }
            })?;
        written
    }

    fn monitor(&self, kinds: &[EventKind], out: &mut impl Write) -> Result<(), CliError> {
        let mut written = Ok(());
        let stop = Interrupt::wish()?;
        let is_over = self.client.events(stop, |event| {
            if !is_wanted(&event, kinds) {
                return ControlFlow::Continue(());
            }
            let line = if self.json {
                output::json_value(out, &event)
            } else {
                output::event(out, &event)
            };
            written = line.and_then(|()| out.flush());
            match &written {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        })?;
        written?;
        if is_over {
            return Ok(());
        }
        let path = shown(self.client.path());
        Err(CliError::Failed(format!(
            "monitor: the daemon at {path} has ended"
        )))
    }

    fn check(&self, file: &Path, out: &mut impl Write) -> Result<(), CliError> {
        tell_verdict(file, self.json, read_file(file)?, out, |spec| {
            let (bridges, ports) = (spec.bridges.len(), spec.ports.len());
            format!("bridges: {bridges}, ports: {ports}")
        })
    }

    fn vtep_request(&self, command: VtepCommand) -> Result<Request, CliError> {
        match command {
            VtepCommand::Set(args) if args == VtepSetArgs::default() => {
                let text = "set vtep: nothing to change; see tapswitch vtep set --help";
                Err(CliError::Usage(text.to_owned()))
            }
            VtepCommand::Set(args) => {
                let current = match self.client.request(&Request::VtepShow)? {
                    Response::Vtep(vtep) => vtep.map(|vtep| vtep.spec),
                    _ => return Err(self.client.unexpected().into()),
                };
                request::vtep_set(args, current)
            }
            VtepCommand::Del => Ok(Request::VtepDel),
            VtepCommand::Show => Ok(Request::VtepShow),
        }
    }

    fn fdb_request(&self, command: FdbCommand) -> Result<Request, CliError> {
        Ok(match command {
            FdbCommand::Show(args) => Request::FdbShow(request::selector(args)),
            FdbCommand::Flush(args) => Request::FdbFlush(request::selector(args)),
            FdbCommand::Get(args) => Request::FdbGet(request::entry(args)),
            FdbCommand::Why(args) => args.into(),
            FdbCommand::Del(args) => Request::FdbDel(request::entry(args)),
            FdbCommand::Add(FdbAddArgs {
                mac,
                port,
                remote,
                bridge,
                vlan,
            }) => {
                let place = match (port, remote) {
                    (Some(port), _) => Place::Port(port),
                    (None, Some(remote)) => Place::Peer(remote),
                    (None, None) => {
                        let text = format!("add fdb entry {mac}: give --port or --remote");
                        return Err(CliError::Usage(text));
                    }
                };
                let bridge = match (bridge, &place) {
                    (Some(bridge), _) => bridge,
                    (None, Place::Port(port)) => self.bridge_of(port, mac)?,
                    (None, Place::Peer(_)) => self.bridge_with_vni(mac)?,
                };
                Request::FdbAdd(StaticSpec {
                    bridge,
                    mac,
                    vlan,
                    place,
                })
            }
        })
    }

    /// The only bridge that is carried over the overlay.
    fn bridge_with_vni(&self, mac: MacAddr) -> Result<Name, CliError> {
        let answer = self.client.request(&Request::BridgeShow { name: None })?;
        let Response::Bridges(bridges) = answer else {
            return Err(self.client.unexpected().into());
        };
        let carried = bridges.into_iter().map(|bridge| bridge.spec);
        let carried: Vec<_> = carried.filter(|spec| spec.vni.is_some()).collect();
        match carried.as_slice() {
            [only] => Ok(only.name.clone()),
            [] => Err(CliError::Failed(format!(
                "add fdb entry {mac}: no bridge has a VNI; give it one: tapswitch bridge set NAME \
                 --vni N"
            ))),
            several => {
                let names: Vec<_> = several.iter().map(|spec| spec.name.as_str()).collect();
                Err(CliError::Usage(format!(
                    "add fdb entry {mac}: which bridge? there is {}; give --bridge NAME",
                    names.join(", ")
                )))
            }
        }
    }

    fn bridge_of(&self, port: &Name, mac: MacAddr) -> Result<Name, CliError> {
        let operation = format!("add fdb entry {mac}");
        let name = Some(port.clone());
        let answer = self.client.request(&Request::PortShow { name });
        let answer = answer.map_err(|error| match error {
            // It was asked for another reason than it thinks.
            ClientError::Api(ApiError { kind, message }) => {
                let cause = message.strip_prefix("show port: ").unwrap_or(&message);
                let message = format!("{operation}: {cause}");
                ClientError::Api(ApiError { kind, message })
            }
            other => other,
        })?;
        let found = match answer {
            Response::Ports(ports) => ports.into_iter().find(|found| found.name == *port),
            _ => return Err(self.client.unexpected().into()),
        };
        found.map(|port| port.bridge).ok_or_else(|| {
            CliError::Failed(format!(
                "{operation}: no port {port}; see tapswitch port show"
            ))
        })
    }
}

fn is_wanted(event: &Event, kinds: &[EventKind]) -> bool {
    let kind = match event {
        Event::Port { .. } => EventKind::Port,
        Event::Fdb { .. } => EventKind::Fdb,
        Event::Bridge { .. } => EventKind::Bridge,
        Event::Mtu { .. } => EventKind::Mtu,
        Event::Peer { .. } => EventKind::Peer,
        Event::Vtep { .. } => EventKind::Vtep,
        Event::Drops { .. } => EventKind::Drops,
        Event::Lost { .. } => return true,
    };
    kinds.is_empty() || kinds.contains(&kind)
}

/// Tells whether a file is right, and if so `contents` of it.
fn tell_verdict<T>(
    file: &Path,
    json: bool,
    outcome: Result<T, Vec<Diagnostic>>,
    out: &mut impl Write,
    contents: impl FnOnce(&T) -> String,
) -> Result<(), CliError> {
    #[derive(Serialize)]
    struct Place<'a> {
        line: usize,
        column: usize,
        message: &'a str,
    }
    #[derive(Serialize)]
    struct Verdict<'a> {
        ok: bool,
        errors: Vec<Place<'a>>,
    }
    if json {
        let errors = outcome.as_ref().err().into_iter().flatten();
        let errors: Vec<_> = errors
            .map(|diagnostic| Place {
                line: diagnostic.line,
                column: diagnostic.column,
                message: &diagnostic.message,
            })
            .collect();
        let ok = errors.is_empty();
        output::json_value(out, &Verdict { ok, errors })?;
        return if ok { Ok(()) } else { Err(CliError::Said(2)) };
    }
    let value = outcome.map_err(|errors| refuse_file(file, &errors))?;
    writeln!(out, "{}: ok ({})", shown(file), contents(&value))?;
    Ok(())
}

fn read_file(file: &Path) -> Result<Result<SwitchSpec, Vec<Diagnostic>>, CliError> {
    read_text(file).map(|text| config::parse(&text))
}

fn read_text(file: &Path) -> Result<String, CliError> {
    let text = if file == Path::new("-") {
        config::read_text(io::stdin().lock())
    } else {
        let opened = std::fs::File::open(file).map_err(TextError::Read);
        opened.and_then(config::read_text)
    };
    text.map_err(|error| {
        let message = format!("read {}: {error}", shown(file));
        match error {
            TextError::Read(_) => CliError::Failed(message),
            _ => CliError::Usage(message),
        }
    })
}

fn refuse_file(file: &Path, errors: &[Diagnostic]) -> CliError {
    drop(output::diagnostics(&mut io::stderr().lock(), file, errors));
    CliError::Said(2)
}

fn daemon_options(args: RunArgs, socket: &Path) -> DaemonOptions {
    DaemonOptions {
        socket: socket.to_owned(),
        group: args.group,
        metrics: args.metrics,
        metrics_audience: match args.metrics_remote {
            true => Audience::Anybody,
            false => Audience::Local,
        },
        web: args.web,
        web_token: args.web_token,
        config: args.config,
        workers: args.workers,
        name: args.name,
        offload: args.offload.into(),
        tuning: Tuning {
            pin: args.pin.into(),
            poll: args.poll,
            coalesce: args.coalesce.into(),
            flow_cache: args.flow_cache.into(),
            recorder: args.recorder.into(),
            moderate: args.moderate.into(),
            gather: args.gather.into(),
            aqm: args.aqm.into(),
            cache_growth: args.cache_growth.into(),
            noqueue: args.noqueue.into(),
        },
    }
}

fn write_manual(directory: &Path) -> Result<(), CliError> {
    manual::write(directory).map_err(|error| {
        let directory = shown(directory);
        CliError::Failed(format!(
            "write manual pages below {directory}: {error}; choose another directory"
        ))
    })
}

/// Nobody reads faster, and each time the workers are held for a moment.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(50);

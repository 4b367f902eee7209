//! A CNI plugin: what a container runtime calls to connect a container (CNI specification 1.0.0).
//! Containers become ports of a running daemon, which is also the only place that remembers
//! anything: the addresses in use are those of its ports.
//!
//! Run (as whoever may talk to the daemon, mostly root), with a daemon and a namespace:
//!
//! ```console
//! # cargo build --example 19_cni_plugin
//! # tapswitch run & ip netns add blue
//! # export CNI_CONTAINERID=c0ffee CNI_NETNS=/run/netns/blue CNI_IFNAME=eth0 CNI_PATH=/opt/cni/bin
//! # echo '{"cniVersion": "1.0.0", "name": "pods", "type": "tapswitch", "bridge": "br0",
//!     "subnet": "10.22.0.0/24"}' > pods.conf
//! # CNI_COMMAND=ADD target/debug/examples/19_cni_plugin < pods.conf
//! ```
//!
//! which prints
//!
//! ```text
//! {
//!   "cniVersion": "1.0.0",
//!   "dns": {},
//!   "interfaces": [
//!     {
//!       "mac": "02:0c:d2:5a:97:3e",
//!       "name": "eth0",
//!       "sandbox": "/run/netns/blue"
//!     }
//!   ],
//!   "ips": [
//!     {
//!       "address": "10.22.0.2/24",
//!       "interface": 0
//!     }
//!   ],
//!   "routes": []
//! }
//! ```
//!
//! In place of `ADD`, `VERSION` tells what it can do, `CHECK` (with that answer as `prevResult` in
//! the configuration) whether all is as it was, and `DEL` undoes it, as often as one likes. For
//! containerd or CRI-O the program goes to `/opt/cni/bin/tapswitch`, and the configuration to
//! `/etc/cni/net.d`.

use std::{
    collections::HashSet,
    env,
    fs::File,
    io::{self, Write},
    net::IpAddr,
    path::PathBuf,
    process::ExitCode,
};

use ipnet::{IpNet, Ipv4Net};
use serde::Deserialize;
use serde_json::{Value, json};
use tapswitch::{
    config::{BridgeSpec, PortSpec},
    control::{
        api::{ErrorKind, PortInfo, PortState, Request, Response},
        client::{Client, ClientError},
        socket::default_path,
    },
    names::Name,
};

const VERSION: &str = "1.0.0";

/// The network configuration, of which a runtime hands over the JSON.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    cni_version: String,
    bridge: Name,
    /// Where addresses come from; its first one is left for a gateway.
    subnet: Ipv4Net,
    gateway: Option<IpAddr>,
    #[serde(default = "default_path")]
    socket: PathBuf,
    /// What `ADD` had answered.
    prev_result: Option<Value>,
}

/// Code and message, as the section "Error" of the specification has them.
struct Failure(u32, String);

fn main() -> ExitCode {
    let (answer, code) = match answer() {
        Ok(answer) => (answer, ExitCode::SUCCESS),
        Err(Failure(code, message)) => {
            let error = json!({ "cniVersion": VERSION, "code": code, "msg": message });
            (Some(error), ExitCode::FAILURE)
        }
    };
    if let Some(answer) = answer {
        // Nobody is left to be told if that fails.
        drop(writeln!(io::stdout(), "{answer:#}"));
    }
    code
}

fn answer() -> Result<Option<Value>, Failure> {
    let command = variable("CNI_COMMAND")?;
    if command == "VERSION" {
        return Ok(Some(
            json!({ "cniVersion": VERSION, "supportedVersions": [VERSION] }),
        ));
    }
    let text = io::read_to_string(io::stdin()).map_err(|error| Failure(5, error.to_string()))?;
    let config: Value =
        serde_json::from_str(&text).map_err(|error| Failure(6, error.to_string()))?;
    let config: Config =
        serde_json::from_value(config).map_err(|error| Failure(7, error.to_string()))?;
    if config.cni_version != VERSION {
        return Err(Failure(
            1,
            format!(
                "version {} is not supported; write {VERSION}",
                config.cni_version
            ),
        ));
    }
    let client = Client::new(&config.socket);
    match &command[..] {
        "ADD" => add(&client, &config).map(Some),
        "CHECK" => check(&client, &config).map(|()| None),
        "DEL" => del(&client).map(|()| None),
        other => Err(Failure(
            4,
            format!("CNI_COMMAND {other:?}: write ADD, CHECK, DEL or VERSION"),
        )),
    }
}

/// Plugs the container in: all of it, or nothing.
fn add(client: &Client, config: &Config) -> Result<Value, Failure> {
    // Two containers at once must not find the same address free. The lock goes with the process.
    let lock = File::create(config.socket.with_extension("cni-lock"));
    let lock = lock.and_then(|lock| lock.lock().map(|()| lock));
    let _lock = lock.map_err(|error| Failure(5, format!("lock addresses: {error}")))?;

    let bridges = Request::BridgeShow {
        name: Some(config.bridge.clone()),
    };
    match client.request(&bridges) {
        Err(ClientError::Api(error)) if error.kind == ErrorKind::NotFound => {
            ask(
                client,
                Request::BridgeAdd(BridgeSpec::new(config.bridge.clone())),
            )?;
        }
        other => drop(other.map_err(refused)?),
    }
    let used: HashSet<String> = ports(client, None)?
        .into_iter()
        .flat_map(|port| port.addresses)
        .collect();
    let hosts = config
        .subnet
        .hosts()
        .skip(1)
        .filter(|&host| Some(IpAddr::V4(host)) != config.gateway);
    let mut free = hosts
        .filter_map(|host| Ipv4Net::new(host, config.subnet.prefix_len()).ok())
        .filter(|address| !used.contains(&address.to_string()));
    let address = free
        .next()
        .ok_or_else(|| Failure(100, format!("no address is left in {}", config.subnet)))?;

    let mut port = PortSpec::new(port_name()?, config.bridge.clone());
    let invalid = |error: &dyn std::error::Error| Failure(4, error.to_string());
    let netns = variable("CNI_NETNS")?;
    port.netns = Some(netns.parse().map_err(|error| invalid(&error))?);
    port.ifname = Some(
        variable("CNI_IFNAME")?
            .parse()
            .map_err(|error| invalid(&error))?,
    );
    port.addresses = vec![IpNet::V4(address)];
    port.gateways = config.gateway.into_iter().collect();
    let Response::Ports(plugged) = ask(client, Request::PortAdd(port))? else {
        return Err(refused(client.unexpected()));
    };
    let port = plugged
        .into_iter()
        .next()
        .ok_or_else(|| refused(client.unexpected()))?;
    let mut ip = json!({ "address": address, "interface": 0 });
    if let Some(gateway) = config.gateway {
        ip["gateway"] = json!(gateway);
    }
    let routes: Vec<_> = config
        .gateway
        .iter()
        .map(|gateway| json!({ "dst": "0.0.0.0/0", "gw": gateway }))
        .collect();
    Ok(json!({
        "cniVersion": VERSION,
        "interfaces": [{ "name": port.ifname, "mac": port.mac, "sandbox": netns }],
        "ips": [ip],
        "routes": routes,
        "dns": {},
    }))
}

/// Whether the container still has what it was given.
fn check(client: &Client, config: &Config) -> Result<(), Failure> {
    let before = config
        .prev_result
        .as_ref()
        .ok_or_else(|| Failure(7, "CHECK needs prevResult".to_owned()))?;
    let name = port_name()?;
    let port = ports(client, Some(name.clone()))?.into_iter().next();
    let port = port.ok_or_else(|| Failure(3, format!("port {name} is gone")))?;
    if port.state != PortState::Up {
        return Err(Failure(
            101,
            format!("port {name}: {}", port.reason.unwrap_or_default()),
        ));
    }
    let given = before["ips"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|ip| ip["address"].as_str());
    match given
        .into_iter()
        .find(|&address| !port.addresses.iter().any(|has| has == address))
    {
        Some(missing) => Err(Failure(
            102,
            format!("port {name} has no address {missing}"),
        )),
        None => Ok(()),
    }
}

/// Unplugs the container. What is gone already is no error: a runtime may ask again and again.
fn del(client: &Client) -> Result<(), Failure> {
    match client.request(&Request::PortDel { name: port_name()? }) {
        Err(ClientError::Api(error)) if error.kind == ErrorKind::NotFound => Ok(()),
        other => other.map(drop).map_err(refused),
    }
}

fn ports(client: &Client, name: Option<Name>) -> Result<Vec<PortInfo>, Failure> {
    match client.request(&Request::PortShow { name }) {
        Ok(Response::Ports(ports)) => Ok(ports),
        Ok(_) => Err(refused(client.unexpected())),
        Err(ClientError::Api(error)) if error.kind == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(refused(error)),
    }
}

fn ask(client: &Client, request: Request) -> Result<Response, Failure> {
    client.request(&request).map_err(refused)
}

/// 11 tells the runtime to try again later: without a daemon, that may help.
fn refused(error: ClientError) -> Failure {
    let code = if matches!(error, ClientError::Api(_)) {
        100
    } else {
        11
    };
    Failure(code, error.to_string())
}

/// Container and interface together are unique. An id has 64 digits, of which twelve will do.
fn port_name() -> Result<Name, Failure> {
    let id: String = variable("CNI_CONTAINERID")?.chars().take(12).collect();
    let name = format!("{id}-{}", variable("CNI_IFNAME")?);
    Name::new(&name).map_err(|error| Failure(4, format!("CNI_CONTAINERID: {error}")))
}

fn variable(name: &str) -> Result<String, Failure> {
    let value = env::var(name).ok().filter(|value| !value.is_empty());
    value.ok_or_else(|| Failure(4, format!("{name} is not set")))
}

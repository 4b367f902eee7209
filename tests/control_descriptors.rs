//! A daemon without a free file descriptor. Alone in its program, since the limit is the process's.

mod fake;

use std::{fs::File, os::fd::AsRawFd, time::Duration};

use fake::FakeDaemon;
use nix::sys::{
    resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit},
    time::TimeValLike,
};
use socket2::{Domain, SockAddr, Socket, Type};
use tapswitch::control::{
    api::{Request, Response},
    client::Client,
};

fn processor_time_ms() -> i64 {
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    usage.user_time().num_milliseconds() + usage.system_time().num_milliseconds()
}

#[test]
fn without_descriptors_the_server_waits_instead_of_spinning_and_recovers() {
    let daemon = FakeDaemon::start("emfile");
    let address = SockAddr::unix(daemon.socket()).unwrap();
    let clients: Vec<Socket> = (0..8)
        .map(|_| Socket::new(Domain::UNIX, Type::STREAM, None).unwrap())
        .collect();
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let lowest_free = File::open("/dev/null").unwrap().as_raw_fd();
    let none_free = u64::try_from(lowest_free).unwrap();

    setrlimit(Resource::RLIMIT_NOFILE, none_free, hard).unwrap();
    for client in &clients {
        client.connect(&address).unwrap();
    }
    let before = processor_time_ms();
    std::thread::sleep(Duration::from_millis(700));
    let spent = processor_time_ms() - before;
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();

    assert!(spent < 200, "{spent} ms of processor time in 700 ms");
    let answer = Client::new(daemon.socket()).request(&Request::Show);
    assert!(matches!(answer, Ok(Response::Show(_))), "{answer:?}");
}

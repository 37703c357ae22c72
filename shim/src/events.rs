//! Task events on their way to containerd.
//!
//! Rule: publishing never waits, and events arrive in the order in which they were published. One
//! task delivers them one after another; while containerd is away it tries again, and nothing
//! overtakes. The queue holds a few events per task and exec, and per call of containerd, which
//! is who reads them: it needs no bound of its own.

use std::time::{Duration, SystemTime};

use containerd_shim_protos::api::{ForwardRequest, Mount};
use containerd_shim_protos::events::task as proto;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::well_known_types::timestamp::Timestamp;
use containerd_shim_protos::protobuf::{self, Message};
use containerd_shim_protos::shim::event::Envelope;
use containerd_shim_protos::shim_async::{Client, EventsClient};
use containerd_shim_protos::topics;
use containerd_shim_protos::ttrpc::context::with_duration;
use tokio::sync::{mpsc, oneshot};

use crate::container::Container;
use crate::rootfs::MountSource;
use crate::state::Exit;

/// The package of the events.
const PACKAGE: &str = "containerd.events";

/// How long containerd may take to accept one event.
const DELIVERY_LIMIT: Duration = Duration::from_secs(5);

/// Attempts per event. With the pauses between them they span about a minute: a restart of
/// containerd, after which it asks for the state of each task anyway.
const ATTEMPTS: u32 = 15;

/// Longest pause between two attempts.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// How long a shim that exits waits for its last events to be delivered.
const FLUSH_LIMIT: Duration = Duration::from_secs(3);

/// Where events are published. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Events {
    namespace: String,
    queue: mpsc::UnboundedSender<Item>,
}

#[derive(Debug)]
enum Item {
    Event(Box<Envelope>),
    Flush(oneshot::Sender<()>),
}

impl Events {
    /// Delivers to containerd's ttrpc socket at `address` (a path) from a task of the current
    /// runtime.
    #[must_use]
    pub fn to_containerd(address: String, namespace: String) -> Self {
        let (queue, items) = mpsc::unbounded_channel();
        tokio::spawn(deliver(address, items));
        Self { namespace, queue }
    }

    /// The micro-VM of `container` is ready.
    pub fn created(&self, container: &Container, rootfs: &[MountSource]) {
        let mut io = proto::TaskIO::new();
        io.stdin.clone_from(&container.stdio().stdin);
        io.stdout.clone_from(&container.stdio().stdout);
        io.stderr.clone_from(&container.stdio().stderr);
        let mut event = proto::TaskCreate::new();
        event.container_id = container.id().to_owned();
        event.bundle = container.bundle().display().to_string();
        event.rootfs = rootfs.iter().map(mount).collect();
        event.io = Some(io).into();
        event.pid = container.pid();
        self.publish_of(container, topics::TASK_CREATE_EVENT_TOPIC, event);
    }

    /// The program of `container` runs.
    pub fn started(&self, container: &Container) {
        let mut event = proto::TaskStart::new();
        event.container_id = container.id().to_owned();
        event.pid = container.pid();
        self.publish_of(container, topics::TASK_START_EVENT_TOPIC, event);
    }

    /// The kernel killed `container` for want of memory.
    pub fn ran_out_of_memory(&self, container: &Container) {
        let mut event = proto::TaskOOM::new();
        event.container_id = container.id().to_owned();
        self.publish_of(container, topics::TASK_OOM_EVENT_TOPIC, event);
    }

    /// `container` has ended.
    pub fn exited(&self, container: &Container, exit: Exit) {
        self.exited_as(container, container.id(), container.pid(), exit);
    }

    fn exited_as(&self, container: &Container, id: &str, pid: u32, exit: Exit) {
        let mut event = proto::TaskExit::new();
        event.container_id = container.id().to_owned();
        event.id = id.to_owned();
        event.pid = pid;
        event.exit_status = exit.status;
        event.exited_at = Some(timestamp(exit.at)).into();
        self.publish_of(container, topics::TASK_EXIT_EVENT_TOPIC, event);
    }

    /// `container` is kept from running.
    pub fn paused(&self, container: &Container) {
        let mut event = proto::TaskPaused::new();
        event.container_id = container.id().to_owned();
        self.publish_of(container, topics::TASK_PAUSED_EVENT_TOPIC, event);
    }

    /// `container` goes on.
    pub fn resumed(&self, container: &Container) {
        let mut event = proto::TaskResumed::new();
        event.container_id = container.id().to_owned();
        self.publish_of(container, topics::TASK_RESUMED_EVENT_TOPIC, event);
    }

    /// An exec of `container` can be started.
    pub fn exec_added(&self, container: &Container, exec: &str) {
        let mut event = proto::TaskExecAdded::new();
        event.container_id = container.id().to_owned();
        event.exec_id = exec.to_owned();
        self.publish_of(container, topics::TASK_EXEC_ADDED_EVENT_TOPIC, event);
    }

    /// An exec of `container` runs as process `pid`.
    pub fn exec_started(&self, container: &Container, exec: &str, pid: u32) {
        let mut event = proto::TaskExecStarted::new();
        event.container_id = container.id().to_owned();
        event.exec_id = exec.to_owned();
        event.pid = pid;
        self.publish_of(container, topics::TASK_EXEC_STARTED_EVENT_TOPIC, event);
    }

    /// An exec of `container`, process `pid`, has ended.
    pub fn exec_exited(&self, container: &Container, exec: &str, pid: u32, exit: Exit) {
        self.exited_as(container, exec, pid, exit);
    }

    /// Nothing is left of `container`.
    pub fn deleted(&self, container: &Container, exit: Exit) {
        let mut event = proto::TaskDelete::new();
        event.container_id = container.id().to_owned();
        event.pid = container.pid();
        event.exit_status = exit.status;
        event.exited_at = Some(timestamp(exit.at)).into();
        self.publish_of(container, topics::TASK_DELETE_EVENT_TOPIC, event);
    }

    /// Of a container that is no task of containerd's, nobody wants to know.
    fn publish_of<M: Message>(&self, container: &Container, topic: &str, event: M) {
        if container.is_announced() {
            self.publish(topic, event);
        }
    }

    fn publish<M: Message>(&self, topic: &str, event: M) {
        let payload = match packed(PACKAGE, &event) {
            Ok(payload) => payload,
            Err(error) => return log::error!(topic; "encode event: {error}"),
        };
        let mut envelope = Envelope::new();
        envelope.timestamp = Some(timestamp(SystemTime::now())).into();
        envelope.namespace.clone_from(&self.namespace);
        envelope.topic = topic.to_owned();
        envelope.event = Some(payload).into();
        // The receiver lives as long as the runtime; without it nobody is left to tell.
        let _ = self.queue.send(Item::Event(Box::new(envelope)));
    }

    /// Waits until everything published so far has been delivered or given up, 3 s at most.
    pub async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        if self.queue.send(Item::Flush(done)).is_ok()
            && tokio::time::timeout(FLUSH_LIMIT, flushed).await.is_err()
        {
            log::warn!("events were not delivered within {} s", FLUSH_LIMIT.as_secs());
        }
    }

    /// The topics queued in `items`, for tests.
    #[cfg(test)]
    pub(crate) fn recorded() -> (Self, impl FnMut() -> Vec<String>) {
        let (queue, mut items) = mpsc::unbounded_channel();
        let topics = move || {
            std::iter::from_fn(|| items.try_recv().ok())
                .filter_map(|item| match item {
                    Item::Event(envelope) => Some(envelope.topic),
                    Item::Flush(_) => None,
                })
                .collect()
        };
        (Self { namespace: "test".to_owned(), queue }, topics)
    }
}

/// `message`, which is of the protobuf package `package`, with its type. (The library would find out the package by parsing
/// the descriptions of all messages that there are, and keep them: 350 KiB of each shim.)
///
/// # Errors
///
/// It lacks a field that it must have.
pub(crate) fn packed<M: Message>(package: &str, message: &M) -> protobuf::Result<Any> {
    let mut any = Any::new();
    any.type_url = format!("{package}.{}", M::NAME);
    any.value = message.write_to_bytes()?;
    Ok(any)
}

/// A point in time as protobuf has it.
#[must_use]
pub fn timestamp(at: SystemTime) -> Timestamp {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let mut timestamp = Timestamp::new();
    timestamp.seconds = since.as_secs().try_into().unwrap_or(i64::MAX);
    timestamp.nanos = since.subsec_nanos().try_into().unwrap_or_default();
    timestamp
}

fn mount(source: &MountSource) -> Mount {
    let mut mount = Mount::new();
    mount.type_.clone_from(&source.kind);
    mount.source.clone_from(&source.source);
    mount.options.clone_from(&source.options);
    mount
}

async fn deliver(address: String, mut items: mpsc::UnboundedReceiver<Item>) {
    let address = match address.contains("://") {
        true => address,
        false => format!("unix://{address}"),
    };
    let mut client = None;
    while let Some(item) = items.recv().await {
        match item {
            Item::Event(envelope) => deliver_one(&address, &mut client, *envelope).await,
            Item::Flush(done) => {
                // Nobody waits any more: fine.
                let _ = done.send(());
            }
        }
    }
}

async fn deliver_one(address: &str, client: &mut Option<EventsClient>, envelope: Envelope) {
    let topic = envelope.topic.clone();
    let mut request = ForwardRequest::new();
    request.set_envelope(envelope);
    for attempt in 1..=ATTEMPTS {
        let refusal = match connect(address, client).await {
            Ok(events) => match events.forward(with_duration(DELIVERY_LIMIT), &request).await {
                Ok(_) => return,
                Err(error) => error,
            },
            Err(error) => error,
        };
        *client = None;
        log::warn!(topic = topic.as_str(), attempt; "deliver event: {refusal}");
        tokio::time::sleep(PAUSE_MAX.min(Duration::from_millis(50) * 2u32.pow(attempt.min(10))))
            .await;
    }
    log::error!(topic = topic.as_str(); "event dropped after {ATTEMPTS} attempts");
}

async fn connect<'a>(
    address: &str,
    client: &'a mut Option<EventsClient>,
) -> containerd_shim_protos::ttrpc::Result<&'a EventsClient> {
    let connected = match client.take() {
        Some(connected) => connected,
        None => EventsClient::new(Client::connect(address).await?),
    };
    Ok(client.insert(connected))
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::{Arc, Mutex};

    use async_trait::async_trait;
    use containerd_shim_protos::api::Empty;
    use containerd_shim_protos::protobuf::MessageFull;
    use containerd_shim_protos::shim_async::{Events as EventsService, create_events};
    use containerd_shim_protos::ttrpc::r#async::{Server, TtrpcContext};

    use super::*;

    /// A containerd that notes who has run out of memory, and refuses the first `refusals` times.
    #[derive(Default)]
    struct Containerd {
        heard: Mutex<Vec<String>>,
        refusals: Mutex<u32>,
    }

    #[async_trait]
    impl EventsService for Containerd {
        async fn forward(
            &self,
            _: &TtrpcContext,
            request: ForwardRequest,
        ) -> containerd_shim_protos::ttrpc::Result<Empty> {
            use containerd_shim_protos::ttrpc;
            let mut refusals = self.refusals.lock().unwrap();
            if *refusals > 0 {
                *refusals -= 1;
                return Err(ttrpc::Error::Others("not yet".to_owned()));
            }
            let event = proto::TaskOOM::parse_from_bytes(&request.envelope.event.value).unwrap();
            self.heard.lock().unwrap().push(event.container_id);
            Ok(Empty::new())
        }
    }

    async fn listen(containerd: &Arc<Containerd>, path: &Path) -> Server {
        let service: Arc<dyn EventsService + Send + Sync> = containerd.clone();
        let mut server = Server::new()
            .bind(&format!("unix://{}", path.display()))
            .unwrap()
            .register_service(create_events(service));
        server.start().await.unwrap();
        server
    }

    fn publish(events: &Events, names: &[&str]) {
        for name in names {
            let mut event = proto::TaskOOM::new();
            event.container_id = (*name).to_owned();
            events.publish("/tasks/oom", event);
        }
    }

    /// As the library says it.
    fn says_its_type<M: MessageFull>(package: &str) {
        let library = containerd_shim::util::convert_to_any(Box::new(M::new())).unwrap();
        assert_eq!(packed(package, &M::new()).unwrap(), library);
    }

    #[test]
    fn messages_are_packed_with_their_types() {
        says_its_type::<proto::TaskCreate>(PACKAGE);
        says_its_type::<proto::TaskStart>(PACKAGE);
        says_its_type::<proto::TaskOOM>(PACKAGE);
        says_its_type::<proto::TaskExit>(PACKAGE);
        says_its_type::<proto::TaskPaused>(PACKAGE);
        says_its_type::<proto::TaskResumed>(PACKAGE);
        says_its_type::<proto::TaskExecAdded>(PACKAGE);
        says_its_type::<proto::TaskExecStarted>(PACKAGE);
        says_its_type::<proto::TaskDelete>(PACKAGE);
        says_its_type::<containerd_shim_protos::cgroups::metrics::Metrics>(
            "io.containerd.cgroups.v1",
        );
        says_its_type::<containerd_shim_protos::cgroups_v2::metrics::Metrics>(
            "io.containerd.cgroups.v2",
        );
    }

    #[tokio::test]
    async fn events_arrive_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sock");
        let containerd = Arc::new(Containerd::default());
        let _server = listen(&containerd, &path).await;
        let events = Events::to_containerd(path.display().to_string(), "ns".to_owned());

        publish(&events, &["a", "b", "c"]);
        events.flush().await;

        assert_eq!(*containerd.heard.lock().unwrap(), ["a", "b", "c"]);
    }

    #[tokio::test]
    async fn nothing_overtakes_an_event_that_was_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sock");
        let containerd = Arc::new(Containerd { refusals: Mutex::new(2), ..Containerd::default() });
        let _server = listen(&containerd, &path).await;
        let events = Events::to_containerd(path.display().to_string(), "ns".to_owned());

        publish(&events, &["a", "b"]);
        events.flush().await;

        assert_eq!(*containerd.heard.lock().unwrap(), ["a", "b"]);
    }

    #[tokio::test]
    async fn events_wait_for_a_containerd_that_is_away() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sock");
        let events = Events::to_containerd(path.display().to_string(), "ns".to_owned());
        publish(&events, &["a", "b"]);
        tokio::time::sleep(Duration::from_millis(50)).await;

        let containerd = Arc::new(Containerd::default());
        let _server = listen(&containerd, &path).await;
        events.flush().await;

        assert_eq!(*containerd.heard.lock().unwrap(), ["a", "b"]);
    }
}

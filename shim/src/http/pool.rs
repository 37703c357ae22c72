//! The micro-VMs that handle the requests of one task.
//!
//! Rule: a micro-VM handles one request at a time, on a thread of its own. What handled a request last is
//! what handles the next one, so that a quiet service has few micro-VMs and their memory is warm; one that
//! nobody has needed for [`IDLE_MAX`] goes, but for the last. There are soon as many as twice the
//! processors; more are made, up to the limit, only for requests that have waited for [`PATIENCE`]: where
//! handlers compute they would but share the processors, where they wait for others they are needed.
//! Requests wait in the order in which they came, and beyond [`QUEUE_MAX`] or [`QUEUE_WAIT_MAX`] they are
//! refused.
//!
//! Between two requests a micro-VM is brought to where [`Isolation`] wants it, before anybody knows the
//! next request. One that did not end well is never kept, whatever the isolation.

use std::collections::VecDeque;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use vmm::host::http::Incoming;
use vmm::{Exit, Idle, MicroVm, Rewound};

use super::costs::Costs;
use super::server::Refused;
use super::serving::{Isolation, Serving};
use crate::error::line;
use crate::microvm::{RunError, Source, Standby, message, tell};
use crate::workload::Workload;

/// How long a micro-VM is kept that nobody needs.
const IDLE_MAX: Duration = Duration::from_secs(10);

/// Most requests that wait for a micro-VM.
const QUEUE_MAX: usize = 1024;

/// How long a request waits for a micro-VM.
const QUEUE_WAIT_MAX: Duration = Duration::from_secs(10);

/// How long a request waits before there is another micro-VM for it.
const PATIENCE: Duration = Duration::from_millis(20);

/// How long a guest has to see that its request has run out of time, before it is stopped.
const STOP_GRACE: Duration = Duration::from_millis(200);

/// The micro-VMs of one task.
#[derive(Clone, Debug)]
pub(super) struct Pool(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    source: Source,
    workload: Workload,
    isolation: Isolation,
    max_workers: usize,
    request_timeout: Option<Duration>,
    costs: Arc<Costs>,
    /// Where the timers of requests run.
    runtime: Handle,
    state: Mutex<State>,
    /// Rung when a worker has ended.
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Requests for which there was no worker, the oldest first.
    queue: VecDeque<Queued>,
    /// Workers without a request, the one that had one last at the end.
    idle: Vec<IdleWorker>,
    workers: usize,
    /// Workers that have not got as far as taking a request.
    starting: usize,
    /// A task looks after the queue.
    is_watched: bool,
    next_id: u64,
    is_closed: bool,
}

#[derive(Debug)]
struct Queued {
    incoming: Incoming,
    since: Instant,
}

#[derive(Debug)]
struct IdleWorker {
    id: u64,
    requests: SyncSender<Incoming>,
}

/// What a worker has between two requests.
enum Standing {
    /// A micro-VM in the state of its snapshot.
    Rewound(Rewound),
    /// One in which the last call ended well.
    Kept(Idle),
}

impl Pool {
    /// A pool without micro-VMs. Must be made on the runtime on which [`submit`](Self::submit) is called.
    pub(super) fn new(
        source: Source,
        workload: Workload,
        serving: &Serving,
        costs: Arc<Costs>,
    ) -> Self {
        let max_workers = serving.max_concurrency.get();
        Self(Arc::new(Shared {
            source,
            workload,
            isolation: serving.isolation,
            max_workers: usize::try_from(max_workers).unwrap_or(usize::MAX),
            request_timeout: serving.request_timeout,
            costs,
            runtime: Handle::current(),
            state: Mutex::default(),
            ended: Condvar::new(),
        }))
    }

    /// Makes the first micro-VM, so that the first request need not wait for it.
    pub(super) fn warm_up(&self) {
        let mut state = self.0.lock();
        // If there can be no thread now, there may be one when a request needs it.
        let _ = self.grow(&mut state);
    }

    /// Has a request handled, soon.
    ///
    /// # Errors
    ///
    /// The request, if too many are waiting or the pool is closed.
    #[expect(clippy::result_large_err, reason = "the request goes back to where it was")]
    pub(super) fn submit(&self, incoming: Incoming) -> Result<(), Refused> {
        let mut state = self.0.lock();
        if state.is_closed {
            return Err(Refused(incoming));
        }
        let mut incoming = incoming;
        while let Some(worker) = state.idle.pop() {
            match worker.requests.try_send(incoming) {
                Ok(()) => return Ok(()),
                // Its thread is gone.
                Err(TrySendError::Full(back) | TrySendError::Disconnected(back)) => incoming = back,
            }
        }
        if state.queue.len() >= QUEUE_MAX {
            return Err(Refused(incoming));
        }
        if state.workers < 2 * processors()
            && let Err(error) = self.grow(&mut state)
            && state.workers == 0
        {
            log::error!("start a thread for a micro-VM: {error}");
            return Err(Refused(incoming));
        }
        state.queue.push_back(Queued { incoming, since: Instant::now() });
        if !state.is_watched {
            state.is_watched = true;
            self.0.runtime.spawn(self.clone().watch_queue());
        }
        Ok(())
    }

    /// Makes micro-VMs for requests that have waited, and refuses those that have waited too long, until
    /// none waits.
    async fn watch_queue(self) {
        loop {
            tokio::time::sleep(PATIENCE).await;
            let mut refused = Vec::new();
            let mut state = self.0.lock();
            let waited = |state: &State| state.queue.front().map(|queued| queued.since.elapsed());
            while waited(&state).is_some_and(|waited| waited >= QUEUE_WAIT_MAX) {
                refused.extend(state.queue.pop_front());
            }
            match waited(&state) {
                // There are some already, which take it later if there can be no more threads.
                Some(waited) if waited >= PATIENCE => drop(self.grow(&mut state)),
                Some(_) => {}
                None => state.is_watched = false,
            }
            let is_done = !state.is_watched;
            drop(state);
            for queued in refused {
                queued.incoming.refuse();
            }
            if is_done {
                return;
            }
        }
    }

    /// Takes no more requests, and waits until none is handled any more, or `until` has come.
    /// Returns whether all have ended.
    pub(super) fn close(&self, until: Instant) -> bool {
        let mut state = self.0.lock();
        state.is_closed = true;
        // Their channels end with them.
        state.idle.clear();
        while state.workers > 0 {
            let Some(rest) = until.checked_duration_since(Instant::now()) else { return false };
            let wait = self.0.ended.wait_timeout(state, rest);
            state = wait.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Starts another worker, if there may be one.
    fn grow(&self, state: &mut State) -> std::io::Result<()> {
        if state.workers >= self.0.max_workers || state.starting >= processors() {
            return Ok(());
        }
        let pool = self.clone();
        let id = state.next_id;
        thread::Builder::new().name(format!("vcpu {id}")).spawn(move || pool.work(id))?;
        state.next_id += 1;
        state.workers += 1;
        state.starting += 1;
        Ok(())
    }

    /// The life of a worker.
    fn work(self, id: u64) {
        let mut worker = Worker { pool: &self, id, has_started: false };
        let mut standing = worker.first();
        worker.started();
        while let Some(incoming) = worker.next() {
            standing = self.0.handle(incoming, standing).unwrap_or_else(|error| {
                // Without an answer the server says that there is none.
                tell(&format!("hyperlight: {}", line(&error)));
                None
            });
        }
    }
}

/// A worker, as its thread sees it. Dropping it signs off.
struct Worker<'a> {
    pool: &'a Pool,
    id: u64,
    has_started: bool,
}

impl Worker<'_> {
    /// What the first request is handled by.
    fn first(&self) -> Option<Standing> {
        let made = Standby::new().and_then(|standby| self.pool.0.source.rewound(standby));
        let made = made.ok().flatten()?;
        self.pool.0.costs.add_micro_vm();
        Some(Standing::Rewound(made))
    }

    /// Says that requests can be taken.
    fn started(&mut self) {
        let mut state = self.pool.0.lock();
        state.starting -= 1;
        self.has_started = true;
    }

    /// The next request; `None` if none came for long, or none will.
    fn next(&self) -> Option<Incoming> {
        let requests = {
            let mut state = self.pool.0.lock();
            while let Some(queued) = state.queue.pop_front() {
                // A client that is gone needs no answer.
                if !queued.incoming.is_abandoned() {
                    return Some(queued.incoming);
                }
            }
            if state.is_closed {
                return None;
            }
            let (requests, receive) = sync_channel(1);
            state.idle.push(IdleWorker { id: self.id, requests });
            receive
        };
        loop {
            match requests.recv_timeout(IDLE_MAX) {
                Ok(incoming) => return Some(incoming),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => {
                    let mut state = self.pool.0.lock();
                    if state.workers == 1 {
                        continue;
                    }
                    match state.idle.iter().position(|worker| worker.id == self.id) {
                        Some(index) => drop(state.idle.remove(index)),
                        // A request is on its way.
                        None => continue,
                    }
                    return None;
                }
            }
        }
    }
}

impl Drop for Worker<'_> {
    fn drop(&mut self) {
        let mut state = self.pool.0.lock();
        state.workers -= 1;
        if !self.has_started {
            state.starting -= 1;
        }
        drop(state);
        self.pool.0.ended.notify_all();
    }
}

impl Shared {
    /// Handles a request by what is `standing`, and returns what handles the next.
    fn handle(
        self: &Arc<Self>,
        incoming: Incoming,
        standing: Option<Standing>,
    ) -> Result<Option<Standing>, RunError> {
        let vm = self.vm(incoming, standing)?;
        let timer = self.request_timeout.map(|timeout| {
            let kick = vm.kick();
            self.runtime.spawn(async move {
                tokio::time::sleep(timeout + STOP_GRACE).await;
                // It waits until the guest has left.
                let _ = tokio::task::spawn_blocking(move || kick.stop()).await;
            })
        });
        let ended = vm.run_and_keep();
        if let Some(timer) = timer {
            timer.abort();
        }
        let (exit, stats, idle) = ended?;
        self.costs.add(&exit, &stats);
        if let Some(message) = message(&self.workload, &exit) {
            tell(&message);
        }
        self.stand(idle, &exit)
    }

    /// A micro-VM that has the request.
    fn vm(&self, incoming: Incoming, standing: Option<Standing>) -> Result<MicroVm, RunError> {
        let mut params = self.source.params();
        if let Some(Standing::Kept(mut idle)) = standing {
            params.request = idle.host().admit(incoming)?;
            params.new_instance = self.isolation == Isolation::Instance;
            return Ok(idle.call(&params)?);
        }
        let mut host = self.source.host()?;
        params.request = host.admit(incoming)?;
        Ok(match standing {
            Some(Standing::Rewound(rewound)) => rewound.start(&params, host)?,
            _ => {
                let vm = self.source.start(Standby::new()?, &params, host)?;
                self.costs.add_micro_vm();
                vm
            }
        })
    }

    /// Brings a micro-VM whose request has ended to where the next one may find it.
    fn stand(&self, idle: Idle, exit: &Exit) -> Result<Option<Standing>, RunError> {
        let ended_well = *exit == Exit::Status(0);
        let is_kept = match self.isolation {
            Isolation::Request => false,
            // Where the snapshot has an instance, going back to it is less work than making one.
            Isolation::Instance => !self.source.is_instantiated(),
            Isolation::None => true,
        };
        if is_kept && ended_well {
            return Ok(Some(Standing::Kept(idle)));
        }
        match idle.rewind() {
            Ok(rewound) => Ok(Some(Standing::Rewound(rewound))),
            Err(vmm::Error::NoSnapshot) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Processors that this process may use. A process that is locked later does not see its control group any
/// more: so it is asked once, before.
pub(super) fn processors() -> usize {
    static PROCESSORS: OnceLock<usize> = OnceLock::new();
    *PROCESSORS.get_or_init(|| thread::available_parallelism().map_or(1, usize::from))
}

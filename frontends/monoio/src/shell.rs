//! The worker: its state, its listeners, its clock.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};

use homing_core::clock::Tick;
use homing_core::gate::Permit;
use homing_core::route::ListenerId;
use homing_core::worker::{Control, Links, Phase, Wheel, Worker};
use homing_shell::drain::Drain;
use homing_shell::pipe::Pipe;
use homing_shell::{
    Ahead, Clock, Job, SWEEP, TICK, accept_blocking, cpu_nanos, is_quiet, link_limits, prepare, slim,
    somebody_waits, stop_listening,
};
use monoio::net::TcpStream;
use slab::Slab;
use socket2::Socket;

use crate::connection;
use crate::link::Link;
use crate::ring::Ring;
use crate::sends::{Chooser, Way};

/// Connections that one listener accepts before those accepted get their turn.
const ACCEPTS: usize = 64;

/// What all tasks of one worker share. One thread: borrows are short and never held across an `await`.
pub(crate) struct Shell {
    pub(crate) state: RefCell<State>,
    /// The worker's pipe, empty between steps.
    pub(crate) pipe: RefCell<Pipe>,
    pub(crate) clock: Clock,
    /// How to send in this tick.
    pub(crate) way: Cell<Way>,
    /// Sends made in this tick, either way.
    pub(crate) sends: Cell<u64>,
    /// The clocks' distance at the last tick.
    pub(crate) ahead: Cell<Ahead>,
    /// Whether somebody looks at milliseconds (the access log): a clock is then read on every turn of a connection. Else
    /// the time of the last tick is good enough for every deadline, and reading both would cost 2 % of a request.
    pub(crate) precise: bool,
    /// What connections know of the program's end.
    pub(crate) phase: Cell<Phase>,
    /// Whether connections are accepted.
    listens: Cell<bool>,
    control: Arc<Control>,
}

/// The parts that change.
pub(crate) struct State {
    pub(crate) worker: Worker,
    pub(crate) links: Links<Rc<Link>>,
    pub(crate) wheel: Wheel,
    pub(crate) slots: Slab<Slot>,
    /// Acceptors, for when the program stops.
    acceptors: Vec<Waker>,
    /// Acceptors that wait because a cap on connections is reached.
    full: Vec<Waker>,
}

/// How others reach a connection's task.
#[derive(Default)]
pub(crate) struct Slot {
    pub(crate) waker: Option<Waker>,
    /// Its timer has fired.
    pub(crate) due: bool,
    /// Its turn for a link has come.
    pub(crate) turn: bool,
}

impl State {
    /// Wakes the connection `key`, if it is still there.
    pub(crate) fn wake(&mut self, key: u32, note: impl FnOnce(&mut Slot)) {
        if let Some(slot) = self.slots.get_mut(key as usize) {
            note(slot);
            if let Some(waker) = &slot.waker {
                waker.wake_by_ref();
            }
        }
    }

    /// Tells the connection that waits for a link that its turn has come.
    pub(crate) fn next_in_line(&mut self, waiting: Option<u32>) {
        if let Some(key) = waiting {
            self.wake(key, |slot| slot.turn = true);
        }
    }

    /// A connection has ended.
    pub(crate) fn remove(&mut self, key: u32) {
        self.wheel.clear(key);
        let _ = self.slots.try_remove(key as usize);
        self.worker.counters().closed.add();
    }

    /// Gives back what a crowd has left behind.
    fn slim(&mut self) {
        self.worker.slim();
        self.wheel.slim();
        slim(&mut self.slots);
    }

    /// There may be room for another connection.
    pub(crate) fn wake_accepting(&mut self) {
        self.full.drain(..).for_each(Waker::wake);
    }
}

/// Runs one worker on the calling thread, until the program stops and its connections have ended.
///
/// # Errors
/// The ring cannot be set up, or a listener cannot be taken over.
pub fn run(mut job: Job, ring: Ring) -> io::Result<()> {
    let mut runtime = ring.builder().enable_timer().build()?;
    let clock = job.clock;
    let precise = job.log.is_some();
    let mut worker = job.worker();
    worker.now = clock.now();
    let state = State {
        wheel: Wheel::new(worker.now.tick),
        links: Links::new(job.link_limits()),
        worker,
        slots: Slab::new(),
        acceptors: Vec::new(),
        full: Vec::new(),
    };
    let phase = Cell::new(Phase::Run);
    let shell = Rc::new(Shell {
        state: RefCell::new(state),
        pipe: RefCell::default(),
        way: Cell::new(Way::AtOnce),
        sends: Cell::new(0),
        clock,
        ahead: Cell::new(clock.ahead()),
        precise,
        phase,
        listens: Cell::new(true),
        control: Arc::clone(&job.control),
    });
    let listeners = std::mem::take(&mut job.listeners);
    runtime.block_on(serve(shell, listeners, job.drain()))
}

async fn serve(shell: Rc<Shell>, listeners: Vec<(ListenerId, Socket)>, drain: Drain) -> io::Result<()> {
    let mut open = Vec::with_capacity(listeners.len());
    for (id, socket) in listeners {
        prepare(&socket);
        let readiness = TcpStream::from_std(OwnedFd::from(socket.try_clone()?).into())?;
        let socket = Rc::new(socket);
        open.push(Rc::clone(&socket));
        monoio::spawn(accept(Rc::clone(&shell), id, socket, readiness));
    }
    housekeeping(&shell, open, drain).await;
    Ok(())
}

/// Accepts what waits at `listener`, and waits with `readiness`, a second descriptor of it. The ring's own accept would take
/// one connection each time the kernel is entered; so, a crowd that comes at once is taken at once.
async fn accept(shell: Rc<Shell>, id: ListenerId, listener: Rc<Socket>, readiness: TcpStream) {
    while let Some(waited) = somebody(&shell, &readiness).await {
        let mut accepted = waited.map(|()| true);
        for _ in 0..ACCEPTS {
            if !matches!(accepted, Ok(true)) {
                break;
            }
            // Asked for before, so that the kernel's queue holds what there is no room for.
            let Some(permit) = room(&shell, id).await else { return };
            accepted = accept_one(&shell, (id, permit), &listener);
        }
        // Out of descriptors, most likely: another worker or a closing connection may free some.
        if accepted.is_err() {
            monoio::time::sleep(TICK).await;
        }
    }
}

/// Waits until a connection waits; `None`: nobody is let in any more.
async fn somebody(shell: &Shell, readiness: &TcpStream) -> Option<io::Result<()>> {
    let mut readable = pin!(readiness.readable(true));
    poll_fn(|context| {
        if !shell.listens.get() {
            return Poll::Ready(None);
        }
        let acceptors = &mut shell.state.borrow_mut().acceptors;
        if !acceptors.iter().any(|waker| waker.will_wake(context.waker())) {
            acceptors.push(context.waker().clone());
        }
        readable.as_mut().poll(context).map(Some)
    })
    .await
}

/// Serves a connection that waits, if there is one. Says whether there is another.
fn accept_one(shell: &Rc<Shell>, at: (ListenerId, Permit), listener: &Socket) -> io::Result<bool> {
    let Some((stream, client)) = accept_blocking(listener)? else { return Ok(false) };
    admit(shell, at, TcpStream::from_std(stream)?, client);
    Ok(somebody_waits(listener))
}

/// Waits until another connection may be served; `None`: nobody is let in any more.
async fn room(shell: &Shell, id: ListenerId) -> Option<Permit> {
    let mut counted = false;
    poll_fn(|context| {
        if !shell.listens.get() {
            return Poll::Ready(None);
        }
        let mut state = shell.state.borrow_mut();
        let full = match shell.control.admit(state.worker.snapshot(), id) {
            Ok(permit) => return Poll::Ready(Some(permit)),
            Err(full) => full,
        };
        if !std::mem::replace(&mut counted, true) {
            state.worker.counters().pause(full);
        }
        state.full.push(context.waker().clone());
        Poll::Pending
    })
    .await
}

fn admit(shell: &Rc<Shell>, at: (ListenerId, Permit), stream: TcpStream, client: String) {
    let key = {
        let mut state = shell.state.borrow_mut();
        state.worker.counters().accepted.add();
        u32::try_from(state.slots.insert(Slot::default())).unwrap_or(u32::MAX)
    };
    monoio::spawn(connection::serve(Rc::clone(shell), key, at, client, stream));
}

/// Every tick: clocks, the way of sending, timers, the control plane, the log; every second the link pool, and memory to give
/// back.
async fn housekeeping(shell: &Rc<Shell>, mut listeners: Vec<Rc<Socket>>, mut drain: Drain) {
    let mut published = shell.control.published();
    let mut swept = Tick::default();
    let mut chooser = Chooser::default();
    loop {
        monoio::time::sleep(TICK).await;
        shell.way.set(chooser.tick(shell.way.get(), shell.sends.take(), cpu_nanos()));
        shell.ahead.set(shell.clock.ahead());
        let now = shell.clock.now();
        let mut state = shell.state.borrow_mut();
        state.worker.now = now;
        state.worker.flush_log();
        if shell.control.published() != published {
            published = shell.control.published();
            state.worker.publish(shell.control.snapshot());
            state.links.set_limits(link_limits(&shell.control));
            state.links.close_retired();
        }
        // Another worker's connection may have ended.
        state.wake_accepting();
        while let Some(key) = state.wheel.expire(now.tick) {
            state.wake(key, |slot| slot.due = true);
        }
        if now.tick.since(swept) >= u64::try_from(SWEEP.as_millis()).unwrap_or(1000) {
            swept = now.tick;
            state.links.sweep(now.tick, |link| is_quiet(&link.descriptor));
            state.slim();
        }
        drain.look(now.tick, state.worker.snapshot().limits.drain_timeout);
        if drain.listens() {
            continue;
        }
        // In the tick in which the listeners close, the tasks that accept are still there.
        let is_empty = state.slots.is_empty() && listeners.is_empty();
        leave(shell, &mut state, &mut listeners, &mut drain);
        if is_empty {
            state.worker.close_log();
            return;
        }
    }
}

/// Closes the listeners, and tells the connections once all workers have closed theirs.
fn leave(shell: &Shell, state: &mut State, listeners: &mut Vec<Rc<Socket>>, drain: &mut Drain) {
    shell.listens.set(false);
    for listener in listeners.drain(..) {
        stop_listening(&listener);
    }
    state.acceptors.drain(..).for_each(Waker::wake);
    if drain.closed(state.worker.now.tick) {
        shell.phase.set(drain.told());
        if !std::mem::replace(&mut state.worker.stopping, true) {
            state.links.clear();
        }
    }
    if drain.told() == Phase::Run {
        return;
    }
    let keys: Vec<u32> = state.slots.iter().filter_map(|(key, _)| u32::try_from(key).ok()).collect();
    for key in keys {
        state.wake(key, |_| {});
    }
}

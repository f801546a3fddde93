//! One client connection: two directions polled together while there is something to do, a bare socket while it rests.
//!
//! ```text
//!            ┌────────────── busy: the exchange, two windows, a link ──────────────┐
//!  accept ──▶│ inward:  step ─▶ read client ─▶ filled   step ─▶ write link ─▶ sent │──▶ over
//!            │ outward: step ─▶ read link   ─▶ filled   step ─▶ write client ─▶ …  │
//!            └───────▲──────────────── nothing for half a second ──────┬───────────┘
//!                    └──────────── readable ─── rest: the socket ◀─────┘
//! ```
//!
//! Reads wait in the ring, but what has come of a long body goes past the window before one is begun (`Conn::pass`,
//! docs/decisions/0012). A write is tried at once, and goes through the ring when the socket is full, or when that has been
//! found to cost less (`sends`, docs/decisions/0013).

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use homing_core::clock::Tick;
use homing_core::exchange::{Dial, Dialed, Direction, Exchange, LinkOrder, Over, Step};
use homing_core::gate::Permit;
use homing_core::route::ListenerId;
use homing_core::window::Window;
use homing_core::worker::{LinkKey, Obtained, Phase};
use homing_shell::pipe::unblocked;
use homing_shell::{connected, is_quiet, reset_on_close, send_now};
use monoio::io::{
    AsyncReadRent, AsyncWriteRent, CancelableAsyncReadRent, Canceller, OwnedReadHalf, OwnedWriteHalf,
    Splitable,
};
use monoio::net::TcpStream;
use socket2::SockRef;

use crate::lend::{Descriptor, Live, Spare, close_now};
use crate::link::Link;
use crate::sends::Way;
use crate::shell::{Shell, State};

/// Passes of a long body in a row before a read goes through the ring, which waits once, so that other connections get their
/// turn: 1 MiB at most.
const PASSES: u32 = 16;

/// `ECANCELED`: a read that was called back.
const CANCELLED: i32 = 125;

/// How a busy phase ends.
enum End {
    /// The connection is over.
    Over(Over),
    /// Nothing is expected soon; what came since the last request.
    Rest { empty_lines: usize },
}

/// A connection while it is busy.
struct Conn {
    shell: Rc<Shell>,
    key: u32,
    exchange: RefCell<Exchange>,
    inbound: RefCell<Window>,
    outbound: RefCell<Window>,
    client: Descriptor,
    link: RefCell<Option<Rc<Link>>>,
    canceller: RefCell<Canceller>,
    /// A read of the client is under way, and was not called back.
    reading: Cell<bool>,
    /// A read of the client is under way, called back or not.
    read_is_out: Cell<bool>,
    /// The request direction waits for news, not for the kernel.
    inward_holds: Cell<bool>,
    /// The response direction waits for news, not for the kernel.
    outward_holds: Cell<bool>,
    /// There is news that a direction which holds has not looked at.
    inward_news: Cell<bool>,
    outward_news: Cell<bool>,
    resting: Cell<bool>,
    /// Passes since a read last went through the ring.
    passes: Cell<u32>,
    /// Windows that the kernel has.
    away: Cell<usize>,
}

/// Serves one connection from accept to close.
pub(crate) async fn serve(
    shell: Rc<Shell>,
    key: u32,
    (id, permit): (ListenerId, Permit),
    client: String,
    mut stream: TcpStream,
) {
    let mut rested = None;
    loop {
        // Boxed, so that a resting connection's task is small.
        let (end, returned) = Box::pin(busy(&shell, key, (id, rested), &client, stream)).await;
        match (end, returned) {
            (End::Rest { empty_lines }, Some(whole)) => {
                stream = whole;
                rested = Some(empty_lines);
            }
            (End::Over(_), Some(whole)) => {
                close_now(whole);
                break;
            }
            (End::Over(_) | End::Rest { .. }, None) => break,
        }
        if !rest(&shell, key, &stream).await {
            break;
        }
    }
    drop(permit);
    let mut state = shell.state.borrow_mut();
    state.remove(key);
    state.wake_accepting();
}

/// Waits until a resting client speaks; false: it has had its time, or the program stops.
async fn rest(shell: &Shell, key: u32, stream: &TcpStream) -> bool {
    let deadline = {
        let mut state = shell.state.borrow_mut();
        let now = shell.clock.now().tick;
        let deadline = now.after(state.worker.snapshot().limits.keep_alive_timeout);
        state.wheel.clear(key);
        state.wheel.set(key, deadline);
        deadline
    };
    let mut readable = pin!(stream.readable(true));
    poll_fn(|context| {
        if let Poll::Ready(readiness) = readable.as_mut().poll(context) {
            return Poll::Ready(readiness.is_ok());
        }
        let mut state = shell.state.borrow_mut();
        let now = state.worker.now.tick;
        if let Some(slot) = state.slots.get_mut(key as usize) {
            slot.due = false;
            slot.waker.get_or_insert_with(|| context.waker().clone());
        }
        if now >= deadline || shell.phase.get() != Phase::Run {
            return Poll::Ready(false);
        }
        state.wheel.set(key, deadline);
        Poll::Pending
    })
    .await
}

/// Serves requests until the connection is over or rests; gives the stream back, unless an operation of the ring still has it,
/// which then closes it. `rested`: it rested before, after so many empty lines, and the client has spoken.
async fn busy(
    shell: &Rc<Shell>,
    key: u32,
    (id, rested): (ListenerId, Option<usize>),
    client: &str,
    stream: TcpStream,
) -> (End, Option<TcpStream>) {
    let descriptor = Descriptor::of(stream.as_raw_fd());
    let exchange = {
        let mut state = shell.state.borrow_mut();
        state.worker.now = shell.clock.now_by(shell.ahead.get());
        let mut exchange = Exchange::new(id, client, &state.worker);
        if let Some(empty_lines) = rested {
            exchange.woken(empty_lines);
        }
        exchange
    };
    let conn = Conn {
        shell: Rc::clone(shell),
        key,
        exchange: RefCell::new(exchange),
        inbound: RefCell::default(),
        outbound: RefCell::default(),
        client: descriptor,
        link: RefCell::default(),
        canceller: RefCell::default(),
        reading: Cell::new(false),
        read_is_out: Cell::new(false),
        inward_holds: Cell::new(false),
        outward_holds: Cell::new(false),
        inward_news: Cell::new(true),
        outward_news: Cell::new(true),
        resting: Cell::new(false),
        passes: Cell::new(0),
        away: Cell::new(0),
    };
    let (mut reader, mut writer) = stream.into_split();
    let end = {
        let mut inward = pin!(conn.inward(&mut reader));
        let mut outward = pin!(conn.outward(&mut writer));
        poll_fn(|context| conn.poll(context, inward.as_mut(), outward.as_mut())).await
    };
    conn.leave(&end);
    // An operation has a window, too.
    let is_still = conn.away.get() == 0;
    // The exchange rests once it has the client's read back, and its link has gone whole. Else a client that waits would be
    // sent away, which is not wrong, but nobody would see why.
    debug_assert!(
        is_still || matches!(end, End::Over(_)),
        "it rests while the kernel has one of its windows"
    );
    (end, reader.reunite(writer).ok().filter(|_| is_still))
}

impl Conn {
    /// Polls both directions until neither has news for the other. A direction that holds is only polled for news, since
    /// no completion can be meant for it.
    fn poll(
        &self,
        context: &mut Context<'_>,
        mut inward: Pin<&mut impl Future<Output = ()>>,
        mut outward: Pin<&mut impl Future<Output = ()>>,
    ) -> Poll<End> {
        self.enter(context);
        let mut completions = true;
        loop {
            if self.inward_news.replace(false) || (completions && !self.inward_holds.get()) {
                let _ = inward.as_mut().poll(context);
            }
            if self.outward_news.replace(false) || (completions && !self.outward_holds.get()) {
                let _ = outward.as_mut().poll(context);
            }
            completions = false;
            if let Some(over) = self.exchange.borrow().over() {
                return Poll::Ready(End::Over(over));
            }
            if self.resting.get() {
                let empty_lines = self.exchange.borrow().empty_lines();
                return Poll::Ready(End::Rest { empty_lines });
            }
            let inward = self.inward_news.get() && self.inward_holds.get();
            let outward = self.outward_news.get() && self.outward_holds.get();
            if !(inward || outward) {
                break;
            }
        }
        self.call_back();
        let exchange = self.exchange.borrow();
        let state = &mut *self.shell.state.borrow_mut();
        if exchange.is_idle() {
            // Only the read of the next request is under way.
            state.worker.windows.reclaim(&mut self.outbound.borrow_mut());
        }
        state.wheel.set(self.key, exchange.deadline());
        Poll::Pending
    }

    /// Takes note of what others have to say to this connection: its timer, the program's phase.
    fn enter(&self, context: &Context<'_>) {
        let state = &mut *self.shell.state.borrow_mut();
        if self.shell.precise {
            state.worker.now = self.shell.clock.now_by(self.shell.ahead.get());
        }
        let Some(slot) = state.slots.get_mut(self.key as usize) else { return };
        slot.waker.get_or_insert_with(|| context.waker().clone());
        let due = std::mem::take(&mut slot.due);
        if slot.turn {
            self.inward_news.set(true);
        }
        let phase = self.shell.phase.get();
        if !due && phase == Phase::Run {
            return;
        }
        self.stir(Direction::Request);
        self.stir(Direction::Response);
        let mut exchange = self.exchange.borrow_mut();
        match phase {
            Phase::Run => {}
            Phase::Drain => exchange.drain(),
            Phase::Stop => exchange.stop(&mut state.worker),
        }
        if due && exchange.deadline() <= state.worker.now.tick {
            exchange.expired(&mut state.worker);
        }
        self.obey(&mut exchange, state);
    }

    /// Calls a read of the client back that is not wanted any more, whoever brought the news: the request direction
    /// cannot take its next step, a second dial say, before it has its window again.
    fn call_back(&self) {
        if self.reading.get() && !self.exchange.borrow().wants_fill(Direction::Request) {
            self.reading.set(false);
            self.canceller.replace_with(|canceller| std::mem::take(canceller).cancel());
        }
    }

    /// The request direction.
    async fn inward(&self, reader: &mut OwnedReadHalf<TcpStream>) {
        loop {
            match self.next(Direction::Request).await {
                Step::Fill => self.read_client(reader).await,
                Step::Send(count) => self.write_link(count).await,
                Step::Dial(dial) => self.dial(dial).await,
                Step::HalfClose => {
                    if let Some(link) = self.link.borrow().as_deref() {
                        link.half_close();
                    }
                    self.report(Direction::Request, |exchange, state| {
                        exchange.half_closed(Direction::Request, &mut state.worker);
                    });
                }
                Step::Rest => {
                    self.resting.set(true);
                    return;
                }
                Step::Hold => {}
            }
        }
    }

    /// The response direction.
    async fn outward(&self, writer: &mut OwnedWriteHalf<TcpStream>) {
        loop {
            match self.next(Direction::Response).await {
                Step::Fill => self.read_link().await,
                Step::Send(count) => self.write_client(writer, count).await,
                Step::HalfClose => {
                    // Failing means that the client has gone already, which the next read will say.
                    let _ = writer.shutdown().await;
                    self.report(Direction::Response, |exchange, state| {
                        exchange.half_closed(Direction::Response, &mut state.worker);
                    });
                }
                Step::Dial(_) | Step::Rest | Step::Hold => {}
            }
        }
    }

    /// There is news for this direction.
    fn stir(&self, direction: Direction) {
        match direction {
            Direction::Request => self.inward_news.set(true),
            Direction::Response => self.outward_news.set(true),
        }
    }

    /// The direction's next step that is not a wait.
    async fn next(&self, direction: Direction) -> Step {
        let holds = match direction {
            Direction::Request => &self.inward_holds,
            Direction::Response => &self.outward_holds,
        };
        poll_fn(|_| {
            let mut state = self.shell.state.borrow_mut();
            let mut exchange = self.exchange.borrow_mut();
            loop {
                let states = exchange.states();
                let step = match direction {
                    Direction::Request => exchange.request(&mut self.inbound.borrow_mut(), &mut state.worker),
                    Direction::Response => {
                        exchange.response(&mut self.outbound.borrow_mut(), &mut state.worker)
                    }
                };
                self.obey(&mut exchange, &mut state);
                let moved = exchange.states() != states;
                if moved {
                    self.stir(direction.other());
                }
                holds.set(step == Step::Hold);
                match step {
                    // The state moved on, and may now call for something.
                    Step::Hold if moved => {}
                    Step::Hold => return Poll::Pending,
                    step => return Poll::Ready(step),
                }
            }
        })
        .await
    }

    /// Reports news of `direction` to the exchange; the other direction may have to know.
    fn report(&self, direction: Direction, news: impl FnOnce(&mut Exchange, &mut State)) {
        self.stir(direction.other());
        let mut state = self.shell.state.borrow_mut();
        let mut exchange = self.exchange.borrow_mut();
        news(&mut exchange, &mut state);
        self.obey(&mut exchange, &mut state);
    }

    /// Does with the link what the exchange orders.
    fn obey(&self, exchange: &mut Exchange, state: &mut State) {
        let Some(order) = exchange.take_link_order() else { return };
        self.stir(Direction::Request);
        self.stir(Direction::Response);
        let Some(link) = self.link.take() else { return };
        let key = link.key;
        let waiting = match order {
            LinkOrder::Pool => state.links.release(key, link, state.worker.now.tick),
            LinkOrder::Close => {
                link.shut();
                state.links.closed(key)
            }
        };
        state.next_in_line(waiting);
    }

    /// Passes on what has come of a long body, past the window. False: nothing has.
    fn pass(&self, direction: Direction) -> bool {
        let passes = self.passes.get();
        if passes >= PASSES {
            self.passes.set(0);
            return false;
        }
        let window = match direction {
            Direction::Request => &self.inbound,
            Direction::Response => &self.outbound,
        };
        let unseen = self.exchange.borrow().unseen(direction, &window.borrow());
        let mut pipe = self.shell.pipe.borrow_mut();
        if !pipe.serves(unseen) {
            return false;
        }
        let Some(link) = self.link.borrow().clone() else { return false };
        let (from, to) = match direction {
            Direction::Request => (&self.client, &link.descriptor),
            Direction::Response => (&link.descriptor, &self.client),
        };
        let Poll::Ready(received) = unblocked(from, |source| pipe.fill(source, unseen)) else { return false };
        let sent = match &received {
            Ok(1..) => unblocked(to, |destination| pipe.pour(destination)),
            _ => Poll::Pending,
        };
        self.passes.set(passes + 1);
        self.report(direction, |exchange, state| {
            let window = &mut window.borrow_mut();
            pipe.report((received, sent), (exchange, direction), window, &mut state.worker);
        });
        true
    }

    async fn read_client(&self, reader: &mut OwnedReadHalf<TcpStream>) {
        if self.pass(Direction::Request) {
            return;
        }
        let spare = self.lend(&self.inbound);
        let handle = self.canceller.borrow().handle();
        self.reading.set(true);
        self.read_is_out.set(true);
        let (result, spare) = reader.cancelable_read(spare, handle).await;
        self.reading.set(false);
        self.read_is_out.set(false);
        self.returned(&self.inbound, spare.0);
        self.filled(Direction::Request, result, &self.inbound);
    }

    #[expect(clippy::await_holding_refcell_ref, reason = "only this direction borrows the link's reader")]
    async fn read_link(&self) {
        if self.pass(Direction::Response) {
            return;
        }
        let Some(link) = self.link.borrow().clone() else {
            return self.filled(Direction::Response, Err(io::ErrorKind::NotConnected.into()), &self.outbound);
        };
        let spare = self.lend(&self.outbound);
        let (result, spare) = {
            let mut reader = link.reader.borrow_mut();
            reader.read(spare).await
        };
        self.returned(&self.outbound, spare.0);
        if self.holds(&link) {
            self.filled(Direction::Response, result, &self.outbound);
        }
    }

    #[expect(clippy::await_holding_refcell_ref, reason = "only this direction borrows the link's writer")]
    async fn write_link(&self, len: usize) {
        let Some(link) = self.link.borrow().clone() else {
            return self.sent(Direction::Request, Err(io::ErrorKind::NotConnected.into()), &self.inbound);
        };
        let at_once = self.send_at_once(&link.descriptor, &self.inbound, len);
        if let Some(result) = at_once {
            return self.sent(Direction::Request, result, &self.inbound);
        }
        let live = Live { window: self.away(&self.inbound), len };
        let (result, live) = {
            let mut writer = link.writer.borrow_mut();
            writer.write(live).await
        };
        self.returned(&self.inbound, live.window);
        if self.holds(&link) {
            self.sent(Direction::Request, result, &self.inbound);
        }
    }

    async fn write_client(&self, writer: &mut OwnedWriteHalf<TcpStream>, len: usize) {
        let at_once = self.send_at_once(&self.client, &self.outbound, len);
        if let Some(result) = at_once {
            return self.sent(Direction::Response, result, &self.outbound);
        }
        let live = Live { window: self.away(&self.outbound), len };
        let (result, live) = writer.write(live).await;
        self.returned(&self.outbound, live.window);
        self.sent(Direction::Response, result, &self.outbound);
    }

    /// Sends what the socket takes without waiting. `None`: it takes nothing now, or the ring is the cheaper way.
    fn send_at_once(
        &self,
        socket: &Descriptor,
        window: &RefCell<Window>,
        len: usize,
    ) -> Option<io::Result<usize>> {
        self.shell.sends.set(self.shell.sends.get() + 1);
        if self.shell.way.get() == Way::Ring {
            return None;
        }
        let window = window.borrow();
        let live = window.live();
        match send_now(socket, live.get(..len).unwrap_or(live)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            result => Some(result),
        }
    }

    /// Moves a window with room out of its place, to be lent.
    fn lend(&self, window: &RefCell<Window>) -> Spare {
        self.shell.state.borrow_mut().worker.windows.lend(&mut window.borrow_mut());
        Spare(self.away(window))
    }

    /// Moves a window with a buffer out of its place, for the kernel.
    fn away(&self, window: &RefCell<Window>) -> Window {
        self.away.set(self.away.get() + 1);
        window.take()
    }

    /// Puts a window back that the kernel had.
    fn returned(&self, place: &RefCell<Window>, window: Window) {
        self.away.set(self.away.get().saturating_sub(1));
        place.replace(window);
    }

    fn filled(&self, direction: Direction, result: io::Result<usize>, window: &RefCell<Window>) {
        self.report(direction, |exchange, state| {
            let window = &mut *window.borrow_mut();
            match result {
                Ok(count) => exchange.filled(direction, window, count, &mut state.worker),
                // Called back: there is no news, only a window at rest.
                Err(error) if error.raw_os_error() == Some(CANCELLED) => {}
                Err(_) => exchange.fill_failed(direction, window, &mut state.worker),
            }
        });
    }

    fn sent(&self, direction: Direction, result: io::Result<usize>, window: &RefCell<Window>) {
        self.report(direction, |exchange, state| match result {
            Ok(count) => exchange.sent(direction, &mut window.borrow_mut(), count, &mut state.worker),
            Err(_) => exchange.send_failed(direction, &mut state.worker),
        });
    }

    /// Whether `link` is still the one in use: results of another one do not count.
    fn holds(&self, link: &Rc<Link>) -> bool {
        self.link.borrow().as_ref().is_some_and(|held| Rc::ptr_eq(held, link))
    }

    /// Finds a link: the one held, a pooled one, or a new connection.
    async fn dial(&self, dial: Dial) {
        let key = self.exchange.borrow().host(dial.host()).map(|host| LinkKey::of(host.shared_cell()));
        let dialed = match key {
            Some(key) if self.keeps_held(key, dial) => Dialed::Reused,
            Some(key) => self.obtain(key, dial).await,
            None => Dialed::Failed,
        };
        self.report(Direction::Request, |exchange, state| exchange.dialed(dialed, &mut state.worker));
    }

    /// Takes a link from the pool, waits in the line of a full host, or connects.
    async fn obtain(&self, key: LinkKey, dial: Dial) -> Dialed {
        let Some((cell, endpoint)) = ({
            let exchange = self.exchange.borrow();
            exchange.host(dial.host()).map(|host| (host.shared_cell().clone(), host.endpoint().clone()))
        }) else {
            return Dialed::Failed;
        };
        let mut waits = false;
        loop {
            let obtained = self.shell.state.borrow_mut().links.obtain(&cell, self.key, dial.fresh());
            match obtained {
                Obtained::Link(link) if !is_quiet(&link.descriptor) => {
                    let mut state = self.shell.state.borrow_mut();
                    let waiting = state.links.closed(key);
                    state.next_in_line(waiting.filter(|&waiting| waiting != self.key));
                }
                Obtained::Link(link) => {
                    self.link.replace(Some(link));
                    self.leaves_queue(key);
                    break Dialed::Reused;
                }
                Obtained::Connect => {
                    self.leaves_queue(key);
                    break self.connect(key, &endpoint).await;
                }
                Obtained::Wait => {
                    // Once: who is woken in vain has no more time than before.
                    if !std::mem::replace(&mut waits, true) {
                        self.report(Direction::Request, |exchange, state| exchange.dial_waits(&state.worker));
                    }
                    if !self.await_turn(key).await {
                        break Dialed::Full;
                    }
                }
                Obtained::Full => break Dialed::Full,
            }
        }
    }

    /// Keeps the link that is held if it serves; else gives it back.
    fn keeps_held(&self, key: LinkKey, dial: Dial) -> bool {
        let Some(held) = self.link.take() else { return false };
        let quiet = !dial.checked() || is_quiet(&held.descriptor);
        if held.key == key && !dial.fresh() && quiet {
            self.link.replace(Some(held));
            return true;
        }
        let state = &mut *self.shell.state.borrow_mut();
        let waiting = if quiet && !dial.fresh() {
            state.links.release(held.key, held, state.worker.now.tick)
        } else {
            state.links.closed(held.key)
        };
        state.next_in_line(waiting);
        false
    }

    async fn connect(&self, key: LinkKey, endpoint: &homing_core::hosts::Endpoint) -> Dialed {
        self.report(Direction::Request, |exchange, state| exchange.dial_begins(&state.worker));
        match self.connected(key, endpoint).await {
            Ok(link) => {
                self.link.replace(Some(link));
                Dialed::Fresh
            }
            Err(_) => {
                let mut state = self.shell.state.borrow_mut();
                let waiting = state.links.closed(key);
                state.next_in_line(waiting);
                Dialed::Failed
            }
        }
    }

    /// A non-blocking connect and a wait for writability: a connect of monoio's own that is called back leaks its
    /// descriptor.
    async fn connected(&self, key: LinkKey, endpoint: &homing_core::hosts::Endpoint) -> io::Result<Rc<Link>> {
        let stream = homing_shell::connect(endpoint)?;
        let descriptor = Descriptor::of(stream.as_raw_fd());
        let stream = TcpStream::from_std(stream)?;
        {
            let mut writable = pin!(stream.writable(true));
            poll_fn(|context| match writable.as_mut().poll(context) {
                Poll::Ready(result) => Poll::Ready(result),
                Poll::Pending if self.exchange.borrow().wants_dial() => Poll::Pending,
                Poll::Pending => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            })
            .await?;
        }
        connected(&descriptor)?;
        Link::new(key, descriptor, stream)
    }

    /// Two links may have come free before this connection took one: the next in line can have the other.
    fn leaves_queue(&self, key: LinkKey) {
        let mut state = self.shell.state.borrow_mut();
        let waiting = state.links.give_up(key, self.key);
        state.next_in_line(waiting);
    }

    /// Waits in the line for a full host; false: for too long.
    async fn await_turn(&self, key: LinkKey) -> bool {
        self.inward_holds.set(true);
        poll_fn(|_| {
            let mut state = self.shell.state.borrow_mut();
            if state.slots.get_mut(self.key as usize).is_some_and(|slot| std::mem::take(&mut slot.turn)) {
                return Poll::Ready(true);
            }
            if self.exchange.borrow().wants_dial() {
                return Poll::Pending;
            }
            drop(state);
            self.leaves_queue(key);
            Poll::Ready(false)
        })
        .await
    }

    /// Gives back what the busy phase held.
    fn leave(&self, end: &End) {
        let mut state = self.shell.state.borrow_mut();
        self.obey(&mut self.exchange.borrow_mut(), &mut state);
        // One that was made while the exchange ended, which has no word on it then.
        if let Some(link) = self.link.take() {
            link.shut();
            let waiting = state.links.closed(link.key);
            state.next_in_line(waiting);
        }
        state.worker.windows.retire(&mut self.inbound.borrow_mut());
        state.worker.windows.retire(&mut self.outbound.borrow_mut());
        // They go with operations that nobody waits for any more.
        state.worker.windows.lost(self.away.get());
        state.wheel.clear(self.key);
        state.wheel.set(self.key, Tick::NEVER);
        match end {
            End::Over(Over::Abort) => reset_on_close(&self.client),
            End::Over(Over::Close) if self.read_is_out.get() => {
                // It must not keep the descriptor open.
                let _ = SockRef::from(&self.client).shutdown(Shutdown::Both);
            }
            End::Over(Over::Close) | End::Rest { .. } => {}
        }
    }
}

//! Connections: how many there may be, how long a peer may take, and TLS.
//!
//! * A connection costs a peer as much as it costs us: whoever sends or takes bytes too slowly is cut.
//! * One more connection than there may be gets a typed answer and is closed; the others do not notice.

use super::{
    body::With,
    limits::{Counted, Counter, Pace},
    peer::{Peer, Who},
    tls::Tls,
};
use crate::{access::tokens, config::Limits};
use axum::{Router, body::Body, http::Request};
use hyper::{body::Incoming, service::Service as _};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use protocol::{ApiError, ErrorCode};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::Sleep,
};
use tokio_util::sync::CancellationToken;

/// Bytes of a body that are read ahead.
const BUFFER: usize = 128 << 10;

/// Files that a server has open besides its connections, with some to spare.
const OTHER_FILES: u64 = 256;

/// How long, and for how many bytes, a peer may go on sending after the last answer on a connection.
const LINGER: Duration = Duration::from_millis(500);
const LINGER_BYTES: usize = 8 << 20;

/// What serves a connection.
#[derive(Clone)]
struct Host {
    router: Router,
    tls: Option<Tls>,
    limits: Limits,
    stopping: CancellationToken,
    everybody: Arc<Counter<()>>,
    addresses: Arc<Counter<Who>>,
}

/// Serves connections until `stopping`, then until those under way have ended. Dropping it cuts them.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    tls: Option<Tls>,
    limits: Limits,
    stopping: CancellationToken,
) {
    allow_files(limits.connections);
    let (everybody, addresses) = Default::default();
    let host = Host { router, tls, limits, stopping, everybody, addresses };
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = host.stopping.cancelled() => break,
            // Finished tasks are not kept.
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            // Counted here, so that who came first stays.
            Ok((stream, addr)) => match host.room(&addr) {
                Ok(counted) => {
                    let host = host.clone();
                    connections.spawn(async move {
                        host.welcome(stream, addr).await;
                        drop(counted);
                    });
                }
                Err(why) => host.turn_away(stream, why),
            },
            Err(error) if gone(&error) => {}
            Err(error) => {
                // Too many open files, most likely: those that are open will end.
                tracing::error!(code = "accept_failed", %error, "connections cannot be accepted");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Lets this process have a file open for each connection and those it needs itself, as far as the system does.
fn allow_files(connections: usize) {
    let wanted = connections as u64 + OTHER_FILES;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|now| wanted <= now) {
        return;
    }
    let limit = maximum.map_or(wanted, |most| most.min(wanted));
    if setrlimit(Resource::Nofile, Rlimit { current: Some(limit), maximum }).is_err()
        || limit < wanted
    {
        tracing::warn!(
            code = "few_files",
            limit,
            wanted,
            "this process may open fewer files than limits.connections needs: raise its limit (ulimit -n)"
        );
    }
}

/// Whether the peer went away before it was accepted.
fn gone(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

impl Host {
    /// Counts a connection from `addr`, or says why there may not be another.
    fn room(&self, addr: &SocketAddr) -> Result<(Counted<()>, Counted<Who>), &'static str> {
        let Limits { connections, connections_per_address, .. } = self.limits;
        let everybody = self.everybody.take((), connections);
        let everybody = everybody.ok_or("this server has no free connection (connections)")?;
        let address = self.addresses.take(Who::peer(addr.ip()), connections_per_address);
        let address =
            address.ok_or("this address has too many connections (connections_per_address)")?;
        Ok((everybody, address))
    }

    async fn welcome(self, stream: TcpStream, addr: SocketAddr) {
        let limits = self.limits;
        // Messages are short and waited for.
        drop(stream.set_nodelay(true));
        let peer = Peer { ip: addr.ip(), certificate: None };
        let Some(tls) = &self.tls else { return self.converse(stream, peer).await };
        let handshake = tls.acceptor().accept(stream);
        match tokio::time::timeout(limits.header_time, handshake).await {
            Ok(Ok(stream)) => {
                let certificates = stream.get_ref().1.peer_certificates();
                let certificate =
                    certificates.and_then(|chain| Some(tokens::fingerprint(chain.first()?)));
                Box::pin(self.converse(stream, Peer { certificate, ..peer })).await;
            }
            Ok(Err(error)) => tracing::debug!(%addr, %error, "TLS handshake failed"),
            Err(_elapsed) => tracing::debug!(%addr, "TLS handshake took too long"),
        }
    }

    /// Says why and hangs up, without waiting for the peer.
    fn turn_away(&self, stream: TcpStream, why: &str) {
        // It cannot be said to a peer that wants to speak TLS.
        if self.tls.is_some() {
            return;
        }
        let error = ApiError {
            code: ErrorCode::RateLimited,
            message: why.into(),
            retryable: true,
            retry_after_ms: Some(1_000),
        };
        let body = serde_json::to_string(&error).expect("it has text keys");
        let answer = format!(
            "HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 1\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        drop(stream.try_write(answer.as_bytes()));
    }

    async fn converse<I>(self, io: I, peer: Peer)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Self { router, limits, stopping, .. } = self;
        let turn = Arc::new(AtomicU64::new(0));
        let io = TokioIo::new(Watched::new(io, turn.clone(), limits));
        let router = TowerToHyperService::new(router);
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            let (router, answering) = (router.clone(), Answering::begin(&turn));
            async move {
                let mut request = request.map(Body::new);
                request.extensions_mut().insert(peer);
                let answer = router.call(request).await?;
                Ok::<_, std::convert::Infallible>(
                    answer.map(|body| Body::new(With::new(body, answering))),
                )
            }
        });
        let mut http = hyper::server::conn::http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(limits.idle_time)
            .max_header_size(limits.header_bytes)
            .max_headers(limits.headers)
            .max_buf_size(BUFFER.max(limits.header_bytes));
        let mut connection = std::pin::pin!(http.serve_connection(io, service));
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = stopping.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(ip = %peer.ip, %error, "connection was cut");
        }
    }
}

/// A request is being answered until this is dropped. The turn is odd meanwhile.
struct Answering(Arc<AtomicU64>);

impl Answering {
    fn begin(turn: &Arc<AtomicU64>) -> Self {
        turn.fetch_add(1, Ordering::Relaxed);
        Self(turn.clone())
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A stream whose peer may not take its time.
struct Watched<I> {
    io: I,
    turn: Arc<AtomicU64>,
    /// The turn that `head` is of.
    seen: u64,
    header_time: Duration,
    /// When the head that has begun must be here.
    head: Option<Pin<Box<Sleep>>>,
    writing: Pace,
    /// Since the last word was said, and how many bytes came all the same.
    lingering: Option<(Pin<Box<Sleep>>, usize)>,
}

impl<I> Watched<I> {
    fn new(io: I, turn: Arc<AtomicU64>, limits: Limits) -> Self {
        let header_time = limits.header_time;
        // The first request has to come without delay.
        let head = Some(Box::pin(tokio::time::sleep(header_time)));
        Self { io, turn, seen: 0, header_time, head, writing: Pace::new(&limits), lingering: None }
    }

    fn written(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(bytes)) => self.writing.passed(bytes),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => {
                let slow = ready!(self.writing.poll_slow(cx));
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, slow)));
            }
        }
        written
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Watched<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        let read = Pin::new(&mut this.io).poll_read(cx, buf);
        let turn = this.turn.load(Ordering::Relaxed);
        if turn != this.seen {
            (this.seen, this.head) = (turn, None);
        }
        if turn % 2 == 1 {
            return read;
        }
        if read.is_pending() {
            let Some(head) = &mut this.head else { return Poll::Pending };
            ready!(head.as_mut().poll(cx));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        if buf.filled().len() > before && this.head.is_none() {
            this.head = Some(Box::pin(tokio::time::sleep(this.header_time)));
        }
        read
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Watched<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.written(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bytes);
        self.written(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        // TLS keeps bytes that the peer does not take.
        self.written(cx, flushed.map_ok(|()| 0)).map_ok(drop)
    }

    /// A connection that is closed while bytes still come is reset, and the peer may not read the answer. So they are
    /// read and thrown away for a moment.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.lingering.is_none() {
            let ended = Pin::new(&mut this.io).poll_shutdown(cx);
            ready!(this.written(cx, ended.map_ok(|()| 0)))?;
        }
        let (timer, came) =
            this.lingering.get_or_insert_with(|| (Box::pin(tokio::time::sleep(LINGER)), 0));
        let mut scratch = [0; 8 << 10];
        while *came < LINGER_BYTES {
            let mut buf = ReadBuf::new(&mut scratch);
            match Pin::new(&mut this.io).poll_read(cx, &mut buf) {
                Poll::Pending => return timer.as_mut().poll(cx).map(Ok),
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => *came += buf.filled().len(),
                // The peer has hung up too, one way or the other.
                Poll::Ready(_) => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}

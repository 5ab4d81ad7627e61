//! The policy as `wasi:http` asks for it: one instance's requests, none of which outlives the call that made it.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use super::{Egress, WayOut};

/// One instance's; its calls come one after another.
pub struct EgressHooks {
    egress: Arc<Egress>,
    call: CancellationToken,
    way_out: WayOut,
}

impl EgressHooks {
    pub fn new(egress: Arc<Egress>) -> Self {
        Self {
            egress,
            call: CancellationToken::new(),
            way_out: WayOut::Closed,
        }
    }

    /// The instance is initialised.
    pub fn let_out(&mut self) {
        self.way_out = WayOut::Open;
    }

    /// Ends the requests that the call left behind, and gives their permits back.
    pub fn end_call(&mut self) {
        std::mem::take(&mut self.call).cancel();
    }
}

/// A call that was cut ends like any other: all its requests at once, as the store drops them one after another.
impl Drop for EgressHooks {
    fn drop(&mut self) {
        self.end_call();
    }
}

type Sent = (
    http::Response<WasiBody>,
    Box<dyn Future<Output = Result<(), Error>> + Send>,
);

impl WasiHttpHooks for EgressHooks {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _fut: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Result<Sent, Error>> + Send> {
        let (egress, call, way_out) = (self.egress.clone(), self.call.clone(), self.way_out);
        Box::new(async move {
            let sending = egress.send(request, options.unwrap_or_default(), way_out);
            let sent = unless_over(&call, sending).await;
            let (response, carrier) = sent.unwrap_or(Err(Error::ConnectionTerminated))?;
            let carrying = async move {
                // A body that is cut tells its reader; there is nobody else to tell.
                unless_over(&call, carrier.run()).await;
                Ok(())
            };
            Ok((response, Box::new(carrying) as Box<_>))
        })
    }
}

/// `work`, or nothing once `call` is over: asked first, as a permit that an ended request gave back would let `work` go on.
async fn unless_over<T>(call: &CancellationToken, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        () = call.cancelled() => None,
        done = work => Some(done),
    }
}

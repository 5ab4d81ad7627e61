//! `wasi:http` as guests see it, with an outgoing handler that takes a request's options together with the request.
//!
//! The library's own handler reads the options and leaves them in the instance's table of resources, although the guest
//! gave them away: a plugin that sets a time-out would be out of resources after some hundred requests.

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi_http::p2::bindings::LinkOptions;
use wasmtime_wasi_http::p2::bindings::http::{outgoing_handler, types};
use wasmtime_wasi_http::p2::types::{HostFutureIncomingResponse, HostOutgoingRequest};
use wasmtime_wasi_http::{WasiHttp, WasiHttpCtxView, WasiHttpView};

use super::engine::Sandbox;

type Request = Resource<HostOutgoingRequest>;
type Options = Option<Resource<types::RequestOptions>>;
type Sent = Result<Resource<HostFutureIncomingResponse>, types::ErrorCode>;

pub(super) fn add_to_linker(linker: &mut Linker<Sandbox>) -> wasmtime::Result<()> {
    let options = LinkOptions::default();
    types::add_to_linker::<_, WasiHttp>(linker, &(&options).into(), Sandbox::http)?;
    // The other versions of 0.2 are found by this one.
    let mut interface = linker.instance("wasi:http/outgoing-handler@0.2.12")?;
    interface.func_wrap(
        "handle",
        |mut store: StoreContextMut<'_, Sandbox>, (request, options): (Request, Options)| {
            handle(&mut store.data_mut().http(), request, options).map(|sent| (sent,))
        },
    )
}

fn handle(
    view: &mut WasiHttpCtxView<'_>,
    request: Request,
    options: Options,
) -> wasmtime::Result<Sent> {
    let given = options.as_ref().map(Resource::rep);
    let sent = outgoing_handler::Host::handle(view, request, options);
    if let Some(rep) = given {
        // A later version of the library may have taken them itself.
        let _ = view
            .table
            .delete(Resource::<types::RequestOptions>::new_own(rep));
    }
    match sent {
        Ok(answer) => Ok(Ok(answer)),
        Err(problem) => types::Host::convert_error_code(view, problem).map(Err),
    }
}

#[cfg(test)]
mod tests {
    use types::HostOutgoingRequest as _;
    use wasmtime::component::ResourceTable;
    use wasmtime_wasi_http::{Error, WasiBody, WasiHttpCtx, WasiHttpHooks};

    use super::*;

    struct Nobody;

    type Exchanged = (
        http::Response<WasiBody>,
        Box<dyn Future<Output = Result<(), Error>> + Send>,
    );

    impl WasiHttpHooks for Nobody {
        fn send_request(
            &mut self,
            _request: http::Request<WasiBody>,
            _options: Option<wasmtime_wasi_http::RequestOptions>,
            _fut: Box<dyn Future<Output = Result<(), Error>> + Send>,
        ) -> Box<dyn Future<Output = Result<Exchanged, Error>> + Send> {
            Box::new(async { Err(Error::HttpRequestDenied) })
        }
    }

    #[tokio::test]
    async fn the_options_of_a_request_go_with_it() {
        let (mut ctx, mut table) = (WasiHttpCtx::new(), ResourceTable::new());
        // Room for what one request needs, and not for what ten would leave.
        table.set_max_capacity(6);
        for _ in 0..10 {
            let mut view = WasiHttpCtxView {
                ctx: &mut ctx,
                hooks: &mut Nobody,
                table: &mut table,
            };
            let headers = types::HostFields::new(&mut view).expect("there is room");
            let request = types::HostOutgoingRequest::new(&mut view, headers);
            let request = request.expect("there is room");
            let this = Resource::new_borrow(request.rep());
            let set = view.set_authority(this, Some("h.example".to_owned()));
            assert!(matches!(set, Ok(Ok(()))));
            let this = Resource::new_borrow(request.rep());
            let set = view.set_path_with_query(this, Some("/".to_owned()));
            assert!(matches!(set, Ok(Ok(()))));
            let options = types::HostRequestOptions::new(&mut view).expect("there is room");
            let rep = options.rep();
            let sent = handle(&mut view, request, Some(options)).expect("it does not trap");
            let answer = sent.expect("it is sent");
            let left: Resource<types::RequestOptions> = Resource::new_borrow(rep);
            assert!(table.get(&left).is_err());
            table.delete(answer).expect("it is there");
        }
    }
}

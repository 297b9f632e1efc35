//! Routes, each said once: how they are served, and how tests describe them for the OpenAPI document.

use axum::Router;
use axum::routing::MethodFilter;
use utoipa::openapi::path::Operation;
use utoipa_axum::PathItemExt as _;
use utoipa_axum::router::OpenApiRouter;

use super::state::Api;

/// Wherever there is GET there is HEAD; it is described where it is most asked for.
pub(super) const WITH_HEAD: &str = "/v1/result";

/// The handlers of one path.
pub(super) struct Route {
    pub(super) serve: fn(Router<Api>) -> Router<Api>,
    pub(super) describe: fn(OpenApiRouter<Api>) -> OpenApiRouter<Api>,
    pub(super) operations: fn() -> Vec<Served>,
}

/// What a handler answers to.
pub(super) struct Served {
    pub(super) path: String,
    pub(super) methods: Vec<&'static str>,
    operation: Operation,
}

impl Served {
    pub(super) fn of<P: utoipa::Path>() -> Self {
        let path = P::path();
        let mut methods: Vec<_> = P::methods().iter().map(method_name).collect();
        if path == WITH_HEAD && methods.contains(&"GET") {
            methods.push("HEAD");
        }
        Self { path, methods, operation: P::operation() }
    }

    /// The statuses of its answers that are no mistakes of a client.
    pub(super) fn own_statuses(&self) -> impl Iterator<Item = &str> {
        let statuses = self.operation.responses.responses.keys();
        // Those that every route has are added to the description later.
        let documented = statuses.map(String::as_str).filter(|status| !status.starts_with('4'));
        documented.chain(["500", "503"])
    }
}

/// The methods of a handler as the router wants them.
pub(super) fn methods<P: utoipa::Path>() -> MethodFilter {
    let filters = P::methods().into_iter().map(|method| method.to_method_filter());
    filters.reduce(MethodFilter::or).expect("utoipa gives each handler a method")
}

fn method_name(method: &utoipa::openapi::HttpMethod) -> &'static str {
    use utoipa::openapi::HttpMethod;
    match method {
        HttpMethod::Get => "GET",
        HttpMethod::Post => "POST",
        HttpMethod::Put => "PUT",
        HttpMethod::Delete => "DELETE",
        HttpMethod::Options => "OPTIONS",
        HttpMethod::Head => "HEAD",
        HttpMethod::Patch => "PATCH",
        HttpMethod::Trace => "TRACE",
    }
}

/// `route!(module: handler, handler)`: handlers of one path, each with its `#[utoipa::path]`.
macro_rules! route {
    ($module:ident: $first:ident $(, $rest:ident)*) => {
        utoipa_axum::paste! {
            $crate::api::table::Route {
                serve: |router| {
                    use $crate::api::table::methods;
                    let handlers = axum::routing::MethodRouter::new()
                        .on(methods::<$module::[<__path_ $first>]>(), $module::$first)
                        $(.on(methods::<$module::[<__path_ $rest>]>(), $module::$rest))*;
                    router.route(&<$module::[<__path_ $first>] as utoipa::Path>::path(), handlers)
                },
                describe: |router| {
                    router.routes(utoipa_axum::routes!($module::$first $(, $module::$rest)*))
                },
                operations: || vec![
                    $crate::api::table::Served::of::<$module::[<__path_ $first>]>()
                    $(, $crate::api::table::Served::of::<$module::[<__path_ $rest>]>())*
                ],
            }
        }
    };
}
pub(super) use route;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    #[test]
    fn the_handlers_of_a_route_have_one_path() {
        // All of them are served at the first one's.
        for route in crate::api::uncompressed().chain(crate::api::compressed()) {
            let paths: BTreeSet<_> = (route.operations)().into_iter().map(|served| served.path).collect();
            assert_eq!(paths.len(), 1, "{paths:?}");
        }
    }
}

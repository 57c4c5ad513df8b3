# The daemon with the libraries that it always needs; `withChecks`, `withRoutes` and `withEtcd` add what only some configurations use.
{
  lib,
  python3Packages,
  installShellFiles,
  coreutils,
  iproute2,
  procps,
  util-linux,
  withChecks ? true,
  withRoutes ? true,
  withEtcd ? true,
}:
python3Packages.buildPythonApplication {
  pname = "floatip";
  version = lib.head (builtins.match ".*__version__ = \"([^\"]+)\".*" (builtins.readFile ../../src/floatip/__init__.py));
  pyproject = true;
  src = lib.cleanSource ../..;

  build-system = [ python3Packages.hatchling ];
  dependencies =
    with python3Packages;
    [
      h11
      rich
    ]
    ++ lib.optionals withChecks [
      cryptography
      dbus-fast
      dnspython
      icmplib
    ]
    ++ lib.optionals withRoutes [ pyroute2 ]
    ++ lib.optionals withEtcd [ httpx ];

  nativeBuildInputs = [ installShellFiles ];
  makeWrapperArgs = [ "--prefix PATH : ${lib.makeBinPath [ iproute2 procps ]}" ];

  # The tests need root, namespaces and a dozen other daemons.
  doCheck = false;
  pythonImportsCheck = [ "floatip.host.daemon" ];

  postInstall = ''
    for shell in bash zsh fish; do
      python packaging/completion.py src $shell > floatip.$shell
    done
    installShellCompletion --cmd floatip --bash floatip.bash --zsh floatip.zsh --fish floatip.fish
    installManPage docs/man/floatip.8
    mkdir -p $out/share/doc/floatip $out/lib/systemd/system $out/lib/tmpfiles.d
    cp -r $(cat debian/floatip.docs) docs/examples $out/share/doc/floatip
    cp debian/floatip.tmpfiles $out/lib/tmpfiles.d/floatip.conf
    for unit in floatip floatip-lelastic; do
      substitute debian/$unit.service $out/lib/systemd/system/$unit.service \
        --replace-quiet /usr/bin/floatip $out/bin/floatip \
        --replace-quiet /bin/kill ${coreutils}/bin/kill \
        --replace-quiet /usr/bin/chrt ${util-linux}/bin/chrt \
        --replace-quiet /usr/share/doc $out/share/doc
    done
  '';

  meta = {
    description = "Keeps a floating IP on a machine that can serve it, on clouds where addresses move by BGP";
    license = lib.licenses.asl20;
    mainProgram = "floatip";
    platforms = lib.platforms.linux;
  };
}

# services.floatip: the unit is that of the package, debian/floatip.service with the store's paths in it.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.floatip;
  format = pkgs.formats.toml { };
  settings = lib.recursiveUpdate cfg.settings (lib.optionalAttrs (cfg.keyFile != null) { link.key = cfg.keyFile; });
  file = if cfg.configFile != null then cfg.configFile else format.generate "floatip.toml" settings;
  hasSecondChance = (cfg.settings.second_chance or { mode = "off"; }).mode or "auto" != "off";
  hasNodes = (cfg.settings ? node && cfg.settings.node != [ ]) || cfg.settings ? member;
in
{
  options.services.floatip = {
    enable = lib.mkEnableOption "floatip, which keeps a floating IP on a machine that can serve it";

    package = lib.mkOption {
      type = lib.types.package;
      default = pkgs.callPackage ./package.nix { };
      defaultText = lib.literalExpression "pkgs.callPackage ./package.nix { }";
      description = "The package. `withChecks`, `withRoutes` and `withEtcd` add libraries that only some configurations use.";
    };

    settings = lib.mkOption {
      type = format.type;
      default = { };
      example = lib.literalExpression ''
        {
          linode.dcid = 6;
          node = [
            { name = "haproxy1"; address = "192.168.143.227"; }
            { name = "haproxy2"; address = "192.168.143.241"; }
          ];
          check = [ { name = "haproxy"; process = "haproxy"; } ];
          instance = [ { name = "web"; addresses = [ "192.168.223.158/32" ]; checks = [ "haproxy" ]; } ];
        }
      '';
      description = "The content of floatip.toml, the same on all nodes. It is readable by everybody: no passwords here.";
    };

    configFile = lib.mkOption {
      type = lib.types.nullOr lib.types.path;
      default = null;
      example = "/run/secrets/floatip.toml";
      description = "A floatip.toml or a keepalived.conf in place of `settings`; for one with a password, outside of the store.";
    };

    keyFile = lib.mkOption {
      type = lib.types.nullOr lib.types.str;
      default = null;
      example = "/run/secrets/floatip-key";
      description = "The key of the nodes, outside of the store. Group floatip must be able to read it, and not everybody.";
    };

    openFirewall = lib.mkOption {
      type = lib.types.bool;
      default = false;
      description = "Let in what the other nodes send, UDP on the ports of the link and of second_chance, from everywhere.";
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = (cfg.configFile != null) != (cfg.settings != { });
        message = "services.floatip: set either settings or configFile";
      }
      {
        assertion = !hasNodes || cfg.keyFile != null;
        message = "services.floatip: nodes sign what they tell each other: make a key with `floatip key FILE` and set keyFile";
      }
      {
        assertion = cfg.keyFile == null || (lib.hasPrefix "/" cfg.keyFile && !lib.hasPrefix builtins.storeDir cfg.keyFile);
        message = "services.floatip.keyFile: everybody can read the store: name a path outside of it, as a string";
      }
      {
        assertion = cfg.keyFile == null || cfg.configFile == null;
        message = "services.floatip: with configFile, the file itself names the key: [link] key";
      }
    ];

    environment.systemPackages = [ cfg.package ];
    environment.etc."floatip/floatip.toml".source = file;

    users.users.floatip = {
      isSystemUser = true;
      group = "floatip";
      description = "Floating IP daemon";
    };
    users.groups.floatip = { };

    systemd.packages = [ cfg.package ];
    systemd.tmpfiles.packages = [ cfg.package ];
    systemd.services.floatip = {
      wantedBy = [ "multi-user.target" ];
      # A new file is checked and read; the daemon goes on.
      reloadTriggers = [ file ];
    };
    # If keepalived creates its notify FIFO, only root can read it.
    systemd.services.keepalived = lib.mkIf (config.services.keepalived.enable or false) {
      serviceConfig.ExecStartPre = [ "+-${pkgs.systemd}/bin/systemd-tmpfiles --create floatip.conf" ];
    };

    networking.firewall.allowedUDPPorts = lib.mkIf cfg.openFirewall (
      [ (cfg.settings.link.port or 9112) ] ++ lib.optional hasSecondChance (cfg.settings.second_chance.port or 8473)
    );
  };
}
